/* The header of the PROXY protocol for a connected socket.
 *
 * Source: Willy Tarreau, "The PROXY protocol", versions 1 and 2, sections 2.1 and 2.2.
 */
#ifndef FASTECHO_BENCH_PROXY_HEADER_H
#define FASTECHO_BENCH_PROXY_HEADER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#define FE_PROXY_HEADER_MAX 108 /* a line of version 1, and the NUL that snprintf adds */

/* The length of the header of `version` (1 or 2) written to `to`; -1 and errno.
 * It names the socket's own address as the client's; on a UNIX socket it names none. */
static inline int fe_proxy_header(int fd, int version, char *to) {
    static const char signature[12] = "\r\n\r\n\0\r\nQUIT\n";
    struct sockaddr_storage own, server;
    socklen_t own_len = sizeof own, server_len = sizeof server;
    char source[INET6_ADDRSTRLEN], destination[INET6_ADDRSTRLEN];
    const void *addresses[2];
    uint16_t ports[2];
    int size, length;
    if (getsockname(fd, (struct sockaddr *)&own, &own_len) < 0 ||
        getpeername(fd, (struct sockaddr *)&server, &server_len) < 0)
        return -1;
    if (own.ss_family == AF_INET6) {
        addresses[0] = &((struct sockaddr_in6 *)&own)->sin6_addr;
        addresses[1] = &((struct sockaddr_in6 *)&server)->sin6_addr;
        ports[0] = ((struct sockaddr_in6 *)&own)->sin6_port;
        ports[1] = ((struct sockaddr_in6 *)&server)->sin6_port;
        size = 16;
    } else {
        addresses[0] = &((struct sockaddr_in *)&own)->sin_addr;
        addresses[1] = &((struct sockaddr_in *)&server)->sin_addr;
        ports[0] = ((struct sockaddr_in *)&own)->sin_port;
        ports[1] = ((struct sockaddr_in *)&server)->sin_port;
        size = own.ss_family == AF_INET ? 4 : 0;
    }
    if (version == 1) {
        if (size == 0)
            return snprintf(to, FE_PROXY_HEADER_MAX, "PROXY UNKNOWN\r\n");
        inet_ntop(own.ss_family, addresses[0], source, sizeof source);
        inet_ntop(own.ss_family, addresses[1], destination, sizeof destination);
        return snprintf(to, FE_PROXY_HEADER_MAX, "PROXY TCP%c %s %s %u %u\r\n", size == 4 ? '4' : '6', source,
                        destination, ntohs(ports[0]), ntohs(ports[1]));
    }
    length = size ? 2 * size + 4 : 0;
    memcpy(to, signature, 12);
    to[12] = size ? 0x21 : 0x20; /* PROXY, or LOCAL */
    to[13] = size == 4 ? 0x11 : size == 16 ? 0x21 : 0; /* a stream over IPv4 or IPv6 */
    to[14] = 0;
    to[15] = (char)length;
    if (size) {
        memcpy(to + 16, addresses[0], (size_t)size);
        memcpy(to + 16 + size, addresses[1], (size_t)size);
        memcpy(to + 16 + 2 * size, ports, 4);
    }
    return 16 + length;
}

#endif
