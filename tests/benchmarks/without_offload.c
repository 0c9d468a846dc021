/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loaded before libc (LD_PRELOAD), makes Linux answer as a system does that can neither join nor
 * split datagrams: setsockopt(2) knows no option of UDP's own level.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

int setsockopt(int socket, int level, int name, const void *value, unsigned int size)
{
    if (level == IPPROTO_UDP) {
        errno = ENOPROTOOPT;
        return -1;
    }
    return (int)syscall(SYS_setsockopt, socket, level, name, value, size);
}
