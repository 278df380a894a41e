/* Datagrams in batches, and the control messages beside them: what differs between the platforms. */
#ifndef FASTECHO_DATAGRAMS_H
#define FASTECHO_DATAGRAMS_H

#ifdef __APPLE__
#define __APPLE_USE_RFC_3542 /* IPV6_PKTINFO */
#endif
#include "_compat.h"
#include <netinet/in.h>
#include <string.h>

union fe_address {
    struct sockaddr any;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
};

/* Room for the address that was asked and the hop limit, aligned. */
union fe_control {
    struct cmsghdr header;
    char room[128];
};

/* What the kernel says of a datagram beside its source: 0 where it says nothing. */
struct fe_arrival {
    int hops; /* hop limit (TTL) with which it arrived */
    int group; /* it was sent to a broadcast or multicast address */
    int known; /* `to` and `to6` hold the address that was asked */
    struct in_addr to;
    struct in6_pktinfo to6;
};

#ifdef __linux__
#define fe_messages mmsghdr

static inline int fe_receive(int fd, struct fe_messages *messages, unsigned int count)
{
    return recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL);
}

static inline int fe_send(int fd, struct fe_messages *messages, unsigned int count)
{
    return sendmmsg(fd, messages, count, FE_SEND_FLAGS);
}
#else
struct fe_messages {
    struct msghdr msg_hdr;
    unsigned int msg_len;
};

/* The count of those that were received or sent, or -1 when the first one failed. */
static inline int fe_receive(int fd, struct fe_messages *messages, unsigned int count)
{
    unsigned int done;
    for (done = 0; done < count; done++) {
        ssize_t size = recvmsg(fd, &messages[done].msg_hdr, MSG_DONTWAIT);
        if (size < 0)
            return done > 0 ? (int)done : -1;
        messages[done].msg_len = (unsigned int)size;
    }
    return (int)done;
}

static inline int fe_send(int fd, struct fe_messages *messages, unsigned int count)
{
    unsigned int done;
    for (done = 0; done < count; done++)
        if (sendmsg(fd, &messages[done].msg_hdr, FE_SEND_FLAGS) < 0)
            return done > 0 ? (int)done : -1;
    return (int)done;
}
#endif

/* Have the kernel tell the hop limit of what arrives, and on a socket of all addresses (`any`) the address that was
   asked; send with a hop limit of `hops`. 0, or -1 with errno. */
static inline int fe_datagram_options(int fd, int family, int any, int hops)
{
    int on = 1;
    if (family == AF_INET6) {
        int only6 = 1;
        socklen_t size = sizeof only6;
        /* A socket for both families has the options of both. */
        if (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &size) == 0 && !only6
            && fe_datagram_options(fd, AF_INET, any, hops) != 0)
            return -1;
        if (any && setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on) != 0)
            return -1;
        if (setsockopt(fd, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, &on, sizeof on) != 0)
            return -1;
        return setsockopt(fd, IPPROTO_IPV6, IPV6_UNICAST_HOPS, &hops, sizeof hops);
    }
    if (any && setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &on, sizeof on) != 0)
        return -1;
    if (setsockopt(fd, IPPROTO_IP, IP_RECVTTL, &on, sizeof on) != 0)
        return -1;
    return setsockopt(fd, IPPROTO_IP, IP_TTL, &hops, sizeof hops);
}

static inline void fe_read_arrival(struct msghdr *message, struct fe_arrival *arrival)
{
    struct cmsghdr *control;
    arrival->hops = arrival->group = arrival->known = 0;
    for (control = CMSG_FIRSTHDR(message); control != NULL; control = CMSG_NXTHDR(message, control)) {
        const unsigned char *data = CMSG_DATA(control);
        if (control->cmsg_level == IPPROTO_IP) {
            if (control->cmsg_type == IP_PKTINFO) {
                struct in_pktinfo info;
                memcpy(&info, data, sizeof info);
                arrival->known = 1;
                arrival->to = info.ipi_addr;
                /* ipi_spec_dst is an address of ours, and none for what was queued before the option was set. */
                arrival->group |= (info.ipi_spec_dst.s_addr != 0 && info.ipi_spec_dst.s_addr != info.ipi_addr.s_addr)
                    || (ntohl(info.ipi_addr.s_addr) >> 28) >= 14;
#ifdef __APPLE__
            } else if (control->cmsg_type == IP_RECVTTL) {
                arrival->hops = *data;
#endif
            } else if (control->cmsg_type == IP_TTL) {
                memcpy(&arrival->hops, data, sizeof arrival->hops);
            }
        } else if (control->cmsg_level == IPPROTO_IPV6) {
            if (control->cmsg_type == IPV6_PKTINFO) {
                memcpy(&arrival->to6, data, sizeof arrival->to6);
                arrival->known = 1;
                arrival->group |= IN6_IS_ADDR_MULTICAST(&arrival->to6.ipi6_addr);
            } else if (control->cmsg_type == IPV6_HOPLIMIT) {
                memcpy(&arrival->hops, data, sizeof arrival->hops);
            }
        }
    }
}

/* Send `message` from the address that was asked. The route chooses the interface, but a link-local address means
   nothing without its own. */
static inline void fe_reply_from(struct msghdr *message, int family, const struct fe_arrival *arrival)
{
    struct cmsghdr *control = (struct cmsghdr *)message->msg_control;
    if (family == AF_INET6) {
        struct in6_pktinfo info = arrival->to6;
        if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr))
            info.ipi6_ifindex = 0;
        control->cmsg_level = IPPROTO_IPV6;
        control->cmsg_type = IPV6_PKTINFO;
        control->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(control), &info, sizeof info);
        message->msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in_pktinfo info;
        memset(&info, 0, sizeof info);
        info.ipi_spec_dst = arrival->to;
        control->cmsg_level = IPPROTO_IP;
        control->cmsg_type = IP_PKTINFO;
        control->cmsg_len = CMSG_LEN(sizeof info);
        memcpy(CMSG_DATA(control), &info, sizeof info);
        message->msg_controllen = CMSG_SPACE(sizeof info);
    }
}

/* Whether a source is IPv4, also behind a socket for both families, which has it as ::ffff:a.b.c.d. */
static inline int fe_source_is_ipv4(const union fe_address *source, uint32_t *address)
{
    if (source->any.sa_family != AF_INET6)
        *address = source->in.sin_addr.s_addr;
    else if (IN6_IS_ADDR_V4MAPPED(&source->in6.sin6_addr))
        memcpy(address, &source->in6.sin6_addr.s6_addr[12], sizeof *address);
    else
        return 0;
    *address = ntohl(*address);
    return 1;
}

/* The network that a source belongs to, an IPv4 /24 or an IPv6 /64, and whether it is a source that can be answered:
   one host, not a group, not the whole of a network. */
static inline uint64_t fe_source_network(const union fe_address *source)
{
    uint64_t network = 0;
    uint32_t address;
    if (fe_source_is_ipv4(source, &address))
        return (uint64_t)1 << 32 | address >> 8;
    memcpy(&network, &source->in6.sin6_addr, sizeof network);
    return network;
}

static inline int fe_source_is_host(const union fe_address *source)
{
    uint32_t address;
    if (fe_source_is_ipv4(source, &address))
        return address >> 24 != 0 && address >> 28 < 14;
    return !IN6_IS_ADDR_MULTICAST(&source->in6.sin6_addr) && !IN6_IS_ADDR_UNSPECIFIED(&source->in6.sin6_addr);
}

static inline int fe_source_is_loopback(const union fe_address *source)
{
    uint32_t address;
    if (fe_source_is_ipv4(source, &address))
        return address >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&source->in6.sin6_addr);
}

/* sin_port and sin6_port are at the same place. */
static inline uint16_t fe_source_port(const union fe_address *source)
{
    return ntohs(source->in.sin_port);
}

#endif
