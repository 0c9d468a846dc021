/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The fast receiver that clients are measured with: takes one dump into a file, and can behave as
 * a long or lossy link.
 *
 *     sink [-d MICROSECONDS] [-l PERCENT] [-r SEED] ADDRESS FILE SIZE
 *
 * makes FILE, SIZE bytes long, takes the dump that comes to ADDRESS, and answers the port that the
 * messages come from. Coalesced datagrams in (UDP_GRO), acks coalesced (UDP_SEGMENT).
 *
 * -d: an ack leaves so long after its message came (0): the round trip
 * -l: messages thrown away, HERALDs excepted (0)
 *
 * SIGTERM ends it with a line of JSON: seconds from the first VMCORE to the last that brought
 * anything new, messages that came, messages thrown away, and messages (by sequence number) that
 * were received; came - received is what was sent more than once.
 */
#define _GNU_SOURCE
#include "netdump.h"
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>

#define RECEIVE_BUFFER (32 << 20)
#define DELAYED (1 << 20)     /* acks that can wait for their time */
#define SEQUENCES (1u << 26)  /* sequence numbers that are told apart: 64 GiB of messages */
#define BURST 32              /* datagrams taken before acks leave */

struct ack {
    uint32_t sequence; /* big-endian */
    double due;
};

static struct ack waiting[DELAYED];
static size_t first_waiting, end_waiting; /* counted up, positions are modulo DELAYED */
static unsigned char seen[SEQUENCES / 8];
static unsigned long came, lost, received;
static double began, ended, delay, loss;
static uint64_t dice;
static unsigned char *file;
static size_t file_size;
static volatile sig_atomic_t stopped;

static void stop(int signal)
{
    (void)signal;
    stopped = 1;
}

/* Whether the next message is to be lost: a random number by xorshift64*. */
static int unlucky(void)
{
    dice ^= dice >> 12;
    dice ^= dice << 25;
    dice ^= dice >> 27;
    return (double)((dice * 0x2545f4914f6cdd1dULL) >> 11) / (double)(1ULL << 53) < loss;
}

static void take(const struct header *head, const unsigned char *payload, size_t size, double now)
{
    uint32_t number = be32toh(head->sequence) % SEQUENCES;
    uint64_t offset = be64toh(head->offset);
    int data = be32toh(head->type) == VMCORE;

    came++;
    if (data && !began)
        began = now;
    if (loss > 0 && unlucky()) {
        lost++;
        return;
    }
    waiting[end_waiting++ % DELAYED] = (struct ack){head->sequence, now + delay};
    if (seen[number / 8] & (1u << number % 8))
        return;
    seen[number / 8] |= (unsigned char)(1u << number % 8);
    received++;
    if (data && offset <= file_size && size <= file_size - offset) {
        memcpy(file + offset, payload, size);
        ended = now;
    }
}

/* Takes a datagram apart, if one is there: messages end to end, each as long as it says. */
static int receive(int socket)
{
    static unsigned char datagram[1 << 16];
    struct header head;
    double now;
    ssize_t got = recv(socket, datagram, sizeof(datagram), 0);
    size_t length = got < 0 ? 0 : (size_t)got, at = 0;

    if (got < 0)
        return 0;
    now = seconds();
    while (length - at >= sizeof(head)) {
        size_t size;

        memcpy(&head, datagram + at, sizeof(head));
        at += sizeof(head);
        size = be32toh(head.size);
        if (size > length - at)
            break;
        take(&head, datagram + at, size, now);
        at += size;
    }
    return 1;
}

static void send_acks(int socket)
{
    double now = seconds();

    while (first_waiting < end_waiting && waiting[first_waiting % DELAYED].due <= now) {
        uint32_t acks[SEGMENTS];
        size_t n = 0;

        while (n < SEGMENTS && first_waiting < end_waiting &&
               waiting[first_waiting % DELAYED].due <= now)
            acks[n++] = waiting[first_waiting++ % DELAYED].sequence;
        send(socket, acks, n * ACK, 0);
    }
}

/* Waits for a datagram, or until the next ack is due. */
static void wait_for_work(int socket)
{
    struct pollfd readable = {.fd = socket, .events = POLLIN};
    struct timespec patience = {0, 100000000};

    if (first_waiting < end_waiting) {
        double left = waiting[first_waiting % DELAYED].due - seconds();

        patience.tv_nsec = left > 0 ? (long)(left * 1e9) : 0;
    }
    ppoll(&readable, 1, &patience, NULL);
}

/* Waits for a HERALD, and answers it from a new socket, connected to its sender. */
static int begin(struct sockaddr_in local)
{
    int one = 1, ack_size = ACK, heralds = udp_socket(local, 0), data;
    struct sockaddr_in from;
    socklen_t from_size = sizeof(from);
    struct header head = {0};
    struct pollfd readable = {.fd = heralds, .events = POLLIN};

    while (be32toh(head.type) != HERALD) {
        if (stopped)
            exit(1);
        poll(&readable, 1, 100);
        recvfrom(heralds, &head, sizeof(head), 0, (struct sockaddr *)&from, &from_size);
    }
    local.sin_port = 0;
    data = udp_socket(local, RECEIVE_BUFFER);
    if (connect(data, (struct sockaddr *)&from, sizeof(from)) < 0 ||
        setsockopt(data, SOL_UDP, UDP_GRO, &one, sizeof(one)) < 0 ||
        setsockopt(data, SOL_UDP, UDP_SEGMENT, &ack_size, sizeof(ack_size)) < 0)
        err(1, "data socket");
    usleep((useconds_t)(delay * 1e6)); /* the HERALD's round trip is as long as any */
    send(data, &head.sequence, ACK, 0);
    return data;
}

int main(int count, char **words)
{
    struct sigaction action = {.sa_handler = stop};
    int option, socket;

    dice = 1;
    while ((option = getopt(count, words, "d:l:r:")) != -1) {
        if (option == 'd')
            delay = atof(optarg) / 1e6;
        else if (option == 'l')
            loss = atof(optarg) / 100;
        else if (option == 'r')
            dice = strtoull(optarg, NULL, 10) | 1;
        else
            return 2;
    }
    if (optind + 3 != count)
        errx(2, "usage: sink [-d MICROSECONDS] [-l PERCENT] [-r SEED] ADDRESS FILE SIZE");
    file_size = strtoull(words[optind + 2], NULL, 10);
    file = map_file(words[optind + 1], 1, &file_size);
    sigaction(SIGTERM, &action, NULL);
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0); /* else acks leave 50 microseconds late */
    socket = begin(endpoint(words[optind], HERALD_PORT));
    while (!stopped) {
        for (int left = BURST; left && receive(socket); left--)
            ;
        send_acks(socket);
        wait_for_work(socket);
    }
    printf("{\"seconds\": %.6f, \"came\": %lu, \"lost\": %lu, \"received\": %lu}\n", ended - began,
           came, lost, received);
    return 0;
}
