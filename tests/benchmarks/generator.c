/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sends a file to a dump server as one or many clients, as fast as the acks allow.
 *
 *     generator [options] -a ADDRESS SERVER FILE
 *
 * -a: the first client's address, the next client has the next address
 * -p: every client's source port (20024); 0: a port each from the system, all on one address
 * -c: clients (1)
 * -n: payload bytes of a message (1448)
 * -w: messages in flight, at most (64); 1 is a stop-and-wait client
 * -k: the kernel's discipline: chunks of 64 KiB, the next when all of one is acked
 * -g: messages leave coalesced (UDP_SEGMENT), once a quarter of the window is free
 * -s: clients more that send one message at a time, one each 5 ms, while the others work (0)
 * -t: milliseconds without an ack after which all that is in flight is sent again (100)
 *
 * Once all HERALDs are acked it prints "ready" and waits for a line (or the end) of its input, so
 * that whoever measures can look at the clock. It ends with a line of JSON: bytes and seconds of
 * the clients at full speed, messages sent, resends, and the longest that an ack of a message sent
 * once took, in milliseconds, of the clients at full speed and of the slow ones.
 */
#define _GNU_SOURCE
#include "netdump.h"
#include <sys/epoll.h>

#define CHUNK (64 * 1024) /* of the kernel's discipline */
#define INTERVAL 0.005    /* seconds between the messages of a slow client */
#define LARGEST_WINDOW 4096
#define PATIENCE 20.0 /* seconds for a HERALD or a FINISHED to be acked, resent each timeout */
#define FIRST 2       /* sequence number of the first VMCORE; the HERALD's is 1, as the kernel's */

struct message {
    double sent; /* when; 0 once it is acked */
    int resent;
};

struct client {
    int socket, slow;
    uint32_t messages; /* of the whole file */
    uint32_t base;     /* the first that is not acked */
    uint32_t next;     /* the first that was not sent */
    double heard;      /* when the last ack came that meant progress */
    double longest;    /* wait for an ack */
    struct message flight[LARGEST_WINDOW];
};

static struct client *clients;
static int count = 1, slow, port = 20024, kernel, coalesce;
static uint32_t window = 64, payload = 1448, per_chunk;
static double timeout = 0.1;
static unsigned char *file;
static size_t file_size, chunk_size;
static unsigned long sent, resent;

static uint64_t offset_of(uint32_t message)
{
    return (uint64_t)(message / per_chunk) * chunk_size + (uint64_t)(message % per_chunk) * payload;
}

static size_t size_of(uint32_t message)
{
    uint64_t offset = offset_of(message);
    uint64_t chunk_end = (message / per_chunk + 1) * (uint64_t)chunk_size;
    uint64_t end = chunk_end < file_size ? chunk_end : file_size;

    return end - offset < payload ? end - offset : payload;
}

/* Describes one message: header and payload. */
static void describe(struct header *head, struct iovec *parts, uint32_t message)
{
    uint64_t offset = offset_of(message);

    *head = header(VMCORE, message + FIRST, offset, size_of(message));
    parts[0] = (struct iovec){head, sizeof(*head)};
    parts[1] = (struct iovec){file + offset, size_of(message)};
}

/* Sends up to SEGMENTS messages from `first` in one call; how many the system took. */
static int send_some(struct client *client, uint32_t first, int wanted)
{
    struct header heads[SEGMENTS];
    struct iovec parts[2 * SEGMENTS];
    struct mmsghdr separate[SEGMENTS];
    char control[CMSG_SPACE(sizeof(uint16_t))] = {0};
    struct msghdr together = {.msg_iov = parts};
    size_t room = LARGEST;
    int n;

    for (n = 0; n < wanted && n < SEGMENTS; n++) {
        size_t size = sizeof(struct header) + size_of(first + (uint32_t)n);

        if (coalesce && (size > room || (n && parts[2 * n - 1].iov_len < payload)))
            break; /* only the last datagram of a UDP_SEGMENT send may be short */
        room -= size < room ? size : room;
        describe(&heads[n], &parts[2 * n], first + (uint32_t)n);
        separate[n] = (struct mmsghdr){{.msg_iov = &parts[2 * n], .msg_iovlen = 2}, 0};
    }
    if (!coalesce || n == 1)
        return sendmmsg(client->socket, separate, (unsigned int)n, 0);
    together.msg_iovlen = 2 * (size_t)n;
    together.msg_control = control;
    together.msg_controllen = sizeof(control);
    *CMSG_FIRSTHDR(&together) = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof(uint16_t)), .cmsg_level = SOL_UDP, .cmsg_type = UDP_SEGMENT};
    *(uint16_t *)CMSG_DATA(CMSG_FIRSTHDR(&together)) = (uint16_t)(sizeof(struct header) + payload);
    return sendmsg(client->socket, &together, 0) < 0 ? -1 : n;
}

/* Sends the messages from `first` up to `end`, and notes the time. */
static void send_messages(struct client *client, uint32_t first, uint32_t end, double now)
{
    while (first < end) {
        int taken = send_some(client, first, (int)(end - first));

        if (taken < 0 && errno != EAGAIN && errno != ECONNREFUSED && errno != ENOBUFS)
            err(1, "send");
        if (taken <= 0)
            return; /* what is lost is sent again */
        for (int n = 0; n < taken; n++, first++) {
            struct message *message = &client->flight[first % LARGEST_WINDOW];

            if (first < client->next) {
                message->resent = 1;
                resent++;
            } else {
                *message = (struct message){now, 0};
                client->next = first + 1;
            }
            sent++;
        }
    }
}

/* The end of what may be in flight now. */
static uint64_t limit(const struct client *client)
{
    uint64_t end = (uint64_t)client->base + (client->slow ? 1 : window);
    uint64_t chunk_end = (client->base / per_chunk + 1) * (uint64_t)per_chunk;

    if (kernel && chunk_end < end)
        end = chunk_end;
    return end < client->messages ? end : client->messages;
}

static void fill(struct client *client, double now)
{
    uint64_t end = limit(client);

    if (coalesce && end < client->messages && end - client->next < window / 4)
        return;
    if (client->slow && now < client->heard + INTERVAL)
        return;
    if (client->base == client->next)
        client->heard = now; /* waiting begins */
    send_messages(client, client->next, (uint32_t)end, now);
}

/* Takes the ack of one message, sent before or not. */
static void acked(struct client *client, uint32_t number, double now)
{
    struct message *message = &client->flight[number % LARGEST_WINDOW];

    if (number < client->base || number >= client->next || !message->sent)
        return;
    if (!message->resent && now - message->sent > client->longest)
        client->longest = now - message->sent;
    message->sent = 0;
    client->heard = now;
    while (client->base < client->next && !client->flight[client->base % LARGEST_WINDOW].sent)
        client->base++;
}

static void receive(struct client *client, double now)
{
    uint32_t acks[SEGMENTS];
    struct iovec parts[SEGMENTS];
    struct mmsghdr datagrams[SEGMENTS];
    int got;

    for (int n = 0; n < SEGMENTS; n++) {
        parts[n] = (struct iovec){&acks[n], ACK};
        datagrams[n] = (struct mmsghdr){{.msg_iov = &parts[n], .msg_iovlen = 1}, 0};
    }
    got = recvmmsg(client->socket, datagrams, SEGMENTS, 0, NULL);
    for (int n = 0; n < got; n++) {
        uint32_t sequence = be32toh(acks[n]);

        if (datagrams[n].msg_len != ACK)
            errx(1, "an ack of %u bytes", datagrams[n].msg_len);
        acked(client, sequence - FIRST, now);
    }
}

/* Sends an empty message until its ack comes; the port that the ack came from. */
static void ask(struct client *client, struct header head, struct sockaddr_in to,
                struct sockaddr_in *answerer)
{
    double start = seconds(), again = start;
    socklen_t size = sizeof(*answerer);
    uint32_t ack;

    while (seconds() < start + PATIENCE) {
        if (seconds() >= again) {
            sendto(client->socket, &head, sizeof(head), 0, (struct sockaddr *)&to, sizeof(to));
            again = seconds() + timeout;
        }
        while (recvfrom(client->socket, &ack, ACK, 0, (struct sockaddr *)answerer, &size) == ACK)
            if (ack == head.sequence)
                return;
        usleep(200);
    }
    errx(1, "no ack of message type %u", be32toh(head.type));
}

/* Binds the client's socket and makes its dump known to the server. */
static void begin(struct client *client, struct sockaddr_in local, struct sockaddr_in server)
{
    struct sockaddr_in answerer;

    client->socket = udp_socket(local, 4 << 20);
    setsockopt(client->socket, SOL_SOCKET, SO_SNDBUFFORCE, &(int){8 << 20}, sizeof(int));
    ask(client, header(HERALD, 1, 0, 0), server, &answerer);
    if (connect(client->socket, (struct sockaddr *)&answerer, sizeof(answerer)) < 0)
        err(1, "connect");
    client->messages = (uint32_t)(file_size / chunk_size) * per_chunk;
    client->messages += (uint32_t)((file_size % chunk_size + payload - 1) / payload);
}

static int working(void)
{
    int at_work = 0;

    for (int n = 0; n < count; n++)
        at_work += clients[n].base < clients[n].messages;
    return at_work;
}

static void transfer(int poller)
{
    struct epoll_event events[SEGMENTS];

    while (working()) {
        int ready = epoll_wait(poller, events, SEGMENTS, slow ? 1 : 10);
        double now = seconds();

        for (int n = 0; n < ready; n++)
            receive(events[n].data.ptr, now);
        for (int n = 0; n < count + slow; n++) {
            struct client *client = &clients[n];

            if (client->base < client->next && now > client->heard + timeout) {
                client->heard = now;
                for (uint32_t at = client->base, end = client->next; at < end; at++)
                    if (client->flight[at % LARGEST_WINDOW].sent)
                        send_messages(client, at, at + 1, now);
            }
            fill(client, now);
        }
    }
}

static void report(double elapsed)
{
    double longest[2] = {0, 0};

    for (int n = 0; n < count + slow; n++)
        if (clients[n].longest > longest[clients[n].slow])
            longest[clients[n].slow] = clients[n].longest;
    printf("{\"bytes\": %zu, \"seconds\": %.6f, \"sent\": %lu, \"resent\": %lu, "
           "\"longest_ms\": %.3f, \"slow_longest_ms\": %.3f}\n",
           file_size * (size_t)count, elapsed, sent, resent, longest[0] * 1e3, longest[1] * 1e3);
    fflush(stdout);
}

static void read_options(int words_count, char **words, struct sockaddr_in *local)
{
    int option;

    while ((option = getopt(words_count, words, "a:p:c:n:w:kgs:t:")) != -1) {
        switch (option) {
        case 'a': *local = endpoint(optarg, 0); break;
        case 'p': port = atoi(optarg); break;
        case 'c': count = atoi(optarg); break;
        case 'n': payload = (uint32_t)atoi(optarg); break;
        case 'w': window = (uint32_t)atoi(optarg); break;
        case 'k': kernel = 1; window = LARGEST_WINDOW; break;
        case 'g': coalesce = 1; break;
        case 's': slow = atoi(optarg); break;
        case 't': timeout = atoi(optarg) / 1e3; break;
        default: exit(2);
        }
    }
    if (optind + 2 != words_count || !window || window > LARGEST_WINDOW || !payload ||
        payload > LARGEST - sizeof(struct header) || count < 1 || slow < 0)
        errx(2, "wrong options; generator.c tells them");
    local->sin_port = htons((uint16_t)port);
}

int main(int words_count, char **words)
{
    struct sockaddr_in local = endpoint("127.0.0.1", 0), server;
    struct epoll_event event = {.events = EPOLLIN};
    int poller = epoll_create1(0);
    double start;

    read_options(words_count, words, &local);
    server = endpoint(words[optind], HERALD_PORT);
    file = map_file(words[optind + 1], 0, &file_size);
    chunk_size = kernel ? CHUNK : file_size;
    per_chunk = (uint32_t)((chunk_size + payload - 1) / payload);
    clients = calloc((size_t)(count + slow), sizeof(*clients));
    if (!clients)
        err(1, "calloc");
    for (int n = 0; n < count + slow; n++) {
        clients[n].slow = n >= count;
        begin(&clients[n], local, server);
        event.data.ptr = &clients[n];
        epoll_ctl(poller, EPOLL_CTL_ADD, clients[n].socket, &event);
        if (port)
            local.sin_addr.s_addr = htonl(ntohl(local.sin_addr.s_addr) + 1);
    }
    puts("ready");
    fflush(stdout);
    for (int letter = 0; letter != '\n' && letter != EOF;)
        letter = getchar();
    start = seconds();
    transfer(poller);
    report(seconds() - start);
    for (int n = 0; n < count + slow; n++) {
        struct sockaddr_in peer;
        socklen_t size = sizeof(peer);

        getpeername(clients[n].socket, (struct sockaddr *)&peer, &size);
        ask(&clients[n], header(FINISHED, clients[n].messages + FIRST, 0, 0), peer, &peer);
    }
    return 0;
}
