#pragma once
#include <libmnl/libmnl.h>
#include <libnetfilter_log/libnetfilter_log.h>
