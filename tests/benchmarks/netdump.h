/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the programs of the transfer benchmark share: netdump(4)'s messages, sockets and a clock.
 * Linux only: epoll, recvmmsg, UDP_SEGMENT and UDP_GRO (udp(7)). ../../README.md lists the fields.
 */
#ifndef NETDUMP_H
#define NETDUMP_H

#include <arpa/inet.h>
#include <endian.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HERALD_PORT 20023 /* of the server; all ports after it come from the system */
#define LARGEST 65507     /* bytes of a UDP datagram over IPv4 */
#define SEGMENTS 64       /* datagrams of one UDP_SEGMENT send: UDP_MAX_SEGMENTS of old kernels */
#define ACK 4             /* bytes: nothing but the sequence number */

enum { HERALD = 1, FINISHED = 2, VMCORE = 3 };

struct header { /* big-endian, followed by `size` bytes */
    uint32_t type, sequence;
    uint64_t offset;
    uint32_t size, unused;
};

static inline struct header header(uint32_t type, uint32_t sequence, uint64_t offset, size_t size)
{
    return (struct header){
        htobe32(type), htobe32(sequence), htobe64(offset), htobe32((uint32_t)size), 0};
}

static inline struct sockaddr_in endpoint(const char *address, unsigned int port)
{
    struct sockaddr_in end = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    if (inet_pton(AF_INET, address, &end.sin_addr) != 1)
        errx(2, "no IPv4 address: %s", address);
    return end;
}

/* A socket that never blocks, bound, with a receive buffer of `buffer` bytes (0: the default). */
static inline int udp_socket(struct sockaddr_in local, int buffer)
{
    int new = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

    if (new < 0)
        err(1, "socket");
    if (buffer && setsockopt(new, SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof(buffer)) < 0)
        setsockopt(new, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof(buffer));
    if (bind(new, (struct sockaddr *)&local, sizeof(local)) < 0)
        err(1, "bind to %s port %d", inet_ntoa(local.sin_addr), ntohs(local.sin_port));
    return new;
}

/* The file mapped: read-only as it is, or made new with `size` bytes. Its size goes to `size`. */
static inline unsigned char *map_file(const char *name, int make, size_t *size)
{
    int file = open(name, make ? O_RDWR | O_CREAT | O_TRUNC : O_RDONLY, 0600);
    struct stat facts;
    void *memory;

    if (file < 0 || (make && ftruncate(file, (off_t)*size) < 0) || fstat(file, &facts) < 0)
        err(1, "%s", name);
    *size = (size_t)facts.st_size;
    memory = mmap(NULL, *size, make ? PROT_READ | PROT_WRITE : PROT_READ,
                  MAP_SHARED | MAP_POPULATE, file, 0);
    if (memory == MAP_FAILED)
        err(1, "mmap %s", name);
    close(file);
    return memory;
}

static inline double seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

#endif
