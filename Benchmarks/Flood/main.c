// Sends UDP packets as fast as it can: flood ADDRESS PORT COUNT [PAYLOAD-BYTES [PORTS [PER-SECOND]]]. Each carries its number in
// the first eight bytes of its payload. With PORTS they go to as many ports from PORT on, in turn. Prints how many were sent and
// how many per second.
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

int main(int count, char **words) {
    if (count < 4) {
        fprintf(stderr, "usage: flood ADDRESS PORT COUNT [PAYLOAD-BYTES [PORTS [PER-SECOND]]]\n");
        return 64;
    }
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } target = {0};
    socklen_t length;
    uint16_t port = (uint16_t)atoi(words[2]);
    if (inet_pton(AF_INET, words[1], &target.v4.sin_addr) == 1) {
        target.v4.sin_family = AF_INET;
        target.v4.sin_port = htons(port);
        length = sizeof target.v4;
    } else if (inet_pton(AF_INET6, words[1], &target.v6.sin6_addr) == 1) {
        target.v6.sin6_family = AF_INET6;
        target.v6.sin6_port = htons(port);
        length = sizeof target.v6;
    } else {
        fprintf(stderr, "flood: %s is not an address\n", words[1]);
        return 64;
    }
    long packets = atol(words[3]);
    size_t size = count > 4 ? (size_t)atol(words[4]) : 64;
    long ports = count > 5 ? atol(words[5]) : 1;
    double rate = count > 6 ? atof(words[6]) : 0;
    char payload[1400] = {0};
    if (size < 8 || size > sizeof payload) size = 64;

    int descriptor = socket(target.any.sa_family, SOCK_DGRAM, 0);
    if (descriptor < 0 || (ports <= 1 && connect(descriptor, &target.any, length) != 0)) {
        perror("flood");
        return 1;
    }
    double begun = now();
    long sent = 0;
    for (uint64_t number = 0; number < (uint64_t)packets; number++) {
        memcpy(payload, &number, sizeof number);
        // Both families have their port at the same place.
        if (ports > 1) target.v4.sin_port = htons((uint16_t)(port + number % (uint64_t)ports));
        // An ICMP error for an earlier packet is reported by the next send; that one was not sent and is sent again.
        for (int attempt = 0; attempt < 3; attempt++) {
            ssize_t count = ports > 1 ? sendto(descriptor, payload, size, 0, &target.any, length)
                                      : send(descriptor, payload, size, 0);
            if (count == (ssize_t)size) {
                sent++;
                break;
            }
        }
        if (rate > 0 && number % 16 == 15) {
            double ahead = (double)(number + 1) / rate - (now() - begun);
            struct timespec rest = {.tv_nsec = (long)(ahead * 1e9)};
            if (ahead > 0.00005 && ahead < 1) nanosleep(&rest, NULL);
        }
    }
    double seconds = now() - begun;
    printf("%ld packets in %.3f s, %.0f packets/s\n", sent, seconds, (double)sent / seconds);
    return 0;
}
