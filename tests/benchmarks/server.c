/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The least that a dump server does which works as the reference server does: for every message
 * one recv, a check, a copy into a buffer of 128 KiB, a pwrite when that is full, and one send.
 *
 *     server [-s] [-b BURST] ADDRESS
 *
 * listens on ADDRESS and writes vmcore.CLIENT.PORT in the current directory until it is killed.
 * -s: acks go to the port that a HERALD came from instead of 20024
 * -b: messages taken from a socket before the others get their turn, at most; the reference
 *     server takes one for each wake-up, which costs a system call more for every message
 */
#define _GNU_SOURCE
#include "netdump.h"
#include <sys/epoll.h>

#define BUFFER (128 * 1024) /* bytes; the socket's and the file's */
#define CLIENT_PORT 20024
#define EVENTS 8

struct client {
    struct client *next;
    struct sockaddr_in address;
    int socket, file;
    size_t used;     /* bytes in the buffer */
    uint64_t offset; /* where the buffer belongs in the file */
    unsigned char buffer[BUFFER];
};

static struct client *clients;
static struct sockaddr_in local;
static int answer_source, herald_socket, poller;
static unsigned char message[LARGEST];

static void watch(int socket, void *client)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};

    if (epoll_ctl(poller, EPOLL_CTL_ADD, socket, &event) < 0)
        err(1, "epoll_ctl");
}

static void flush(struct client *client)
{
    size_t done = 0;

    while (done < client->used) {
        ssize_t written = pwrite(client->file, client->buffer + done, client->used - done,
                                 (off_t)(client->offset + done));
        if (written < 0)
            err(1, "pwrite");
        done += (size_t)written;
    }
    client->offset += client->used;
    client->used = 0;
}

static void store(struct client *client, uint64_t offset, size_t size)
{
    if (offset != client->offset + client->used || client->used + size > BUFFER) {
        flush(client);
        client->offset = offset;
    }
    memcpy(client->buffer + client->used, message + sizeof(struct header), size);
    client->used += size;
    if (client->used == BUFFER)
        flush(client);
}

static void finish(struct client *client)
{
    struct client **link = &clients;

    while (*link != client)
        link = &(*link)->next;
    *link = client->next;
    close(client->socket);
    close(client->file);
    free(client);
}

/* Takes one message; whether the client may have more. */
static int receive(struct client *client)
{
    struct header *head = (struct header *)message;
    ssize_t length = recv(client->socket, message, sizeof(message), 0);
    size_t size = (size_t)length - sizeof(*head);
    uint32_t sequence = head->sequence; /* goes back as it came */

    if (length < 0)
        return 0; /* EAGAIN; or an ICMP error, which ends nothing */
    if ((size_t)length < sizeof(*head) || size != be32toh(head->size))
        return 1;
    switch (be32toh(head->type)) {
    case VMCORE:
        if (size > BUFFER)
            return 1;
        store(client, be64toh(head->offset), size);
        break;
    case FINISHED:
        flush(client);
        fsync(client->file);
        break;
    default:
        return 1;
    }
    send(client->socket, &sequence, ACK, 0);
    if (head->type == htobe32(FINISHED)) {
        finish(client);
        return 0;
    }
    return 1;
}

static struct client *begin(struct sockaddr_in address)
{
    struct client *client = calloc(1, sizeof(*client));
    struct sockaddr_in any_port = local;
    char name[64];

    if (!client)
        err(1, "calloc");
    any_port.sin_port = 0;
    client->address = address;
    client->socket = udp_socket(any_port, 0);
    if (setsockopt(client->socket, SOL_SOCKET, SO_RCVBUF, &(int){BUFFER}, sizeof(int)) < 0)
        err(1, "SO_RCVBUF");
    if (connect(client->socket, (struct sockaddr *)&address, sizeof(address)) < 0)
        err(1, "connect");
    snprintf(name, sizeof(name), "vmcore.%s.%d", inet_ntoa(address.sin_addr),
             ntohs(address.sin_port));
    client->file = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (client->file < 0)
        err(1, "%s", name);
    client->next = clients;
    clients = client;
    watch(client->socket, client);
    return client;
}

/* Begins a client's dump, or answers the HERALD again if it has one. */
static void herald(void)
{
    struct sockaddr_in from;
    socklen_t from_size = sizeof(from);
    struct header *head = (struct header *)message;
    struct client *client = clients;
    ssize_t length = recvfrom(herald_socket, message, sizeof(message), 0,
                              (struct sockaddr *)&from, &from_size);

    if (length < (ssize_t)sizeof(*head) || be32toh(head->type) != HERALD)
        return;
    if (!answer_source)
        from.sin_port = htons(CLIENT_PORT);
    while (client && (client->address.sin_addr.s_addr != from.sin_addr.s_addr ||
                      client->address.sin_port != from.sin_port))
        client = client->next;
    if (!client)
        client = begin(from);
    send(client->socket, &head->sequence, ACK, 0);
}

int main(int count, char **words)
{
    struct epoll_event events[EVENTS];
    int option, burst = 64;

    while ((option = getopt(count, words, "sb:")) != -1) {
        if (option == 's')
            answer_source = 1;
        else if (option == 'b')
            burst = atoi(optarg);
        else
            return 2;
    }
    if (optind + 1 != count)
        errx(2, "usage: server [-s] [-b BURST] ADDRESS");
    local = endpoint(words[optind], HERALD_PORT);
    herald_socket = udp_socket(local, 0);
    poller = epoll_create1(0);
    watch(herald_socket, NULL);
    for (;;) {
        int ready = epoll_wait(poller, events, EVENTS, -1);

        for (int i = 0; i < ready; i++) {
            struct client *client = events[i].data.ptr;

            if (!client) {
                herald();
                continue;
            }
            for (int left = burst; left && receive(client); left--)
                ;
        }
    }
}
