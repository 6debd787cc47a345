// Sends UDP packets as fast as it can: flood ADDRESS PORT COUNT [PAYLOAD-BYTES]. Each carries its number in the first
// eight bytes of its payload. Prints how many were sent and how many per second.
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

int main(int count, char **words) {
    if (count < 4) {
        fprintf(stderr, "usage: flood ADDRESS PORT COUNT [PAYLOAD-BYTES]\n");
        return 64;
    }
    struct sockaddr_in target = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(words[2]))};
    if (inet_pton(AF_INET, words[1], &target.sin_addr) != 1) {
        fprintf(stderr, "flood: %s is not an IPv4 address\n", words[1]);
        return 64;
    }
    long packets = atol(words[3]);
    size_t size = count > 4 ? (size_t)atol(words[4]) : 64;
    char payload[1400] = {0};
    if (size < 8 || size > sizeof payload) size = 64;

    int descriptor = socket(AF_INET, SOCK_DGRAM, 0);
    if (descriptor < 0 || connect(descriptor, (struct sockaddr *)&target, sizeof target) != 0) {
        perror("flood");
        return 1;
    }
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    long sent = 0;
    for (uint64_t number = 0; number < (uint64_t)packets; number++) {
        memcpy(payload, &number, sizeof number);
        // An ICMP error for an earlier packet is reported by the next send; that one was not sent and is sent again.
        for (int attempt = 0; attempt < 3; attempt++) {
            if (send(descriptor, payload, size, 0) == (ssize_t)size) {
                sent++;
                break;
            }
        }
    }
    clock_gettime(CLOCK_MONOTONIC, &ended);
    double seconds = (double)(ended.tv_sec - begun.tv_sec) + (double)(ended.tv_nsec - begun.tv_nsec) / 1e9;
    printf("%ld packets in %.3f s, %.0f packets/s\n", sent, seconds, (double)sent / seconds);
    return 0;
}
