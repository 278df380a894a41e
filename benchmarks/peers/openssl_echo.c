/* The floor over TLS: an echo server with nothing in it but the system calls and OpenSSL.
 *
 * One thread, level-triggered epoll, one buffer of 16 KiB (a whole record) shared by all connections. OpenSSL reads
 * ahead, so that a record costs one recv instead of two. What SSL_write could not take is kept in separate memory,
 * and that connection is not read until it has gone. A session ends at close_notify, end of file or error.
 *
 * usage: openssl_echo PORT PEM
 *
 * listens on 127.0.0.1 and prints the port when ready; PEM holds the key and the certificate chain. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_SIZE = 16 * 1024, BATCH = 1024, BACKLOG = 4096 };

struct session {
    SSL *ssl;
    uint32_t events; /* that epoll reports */
    char *tail;      /* NULL unless bytes are due */
    size_t length, sent;
};

static char buffer[BUFFER_SIZE];
static struct session *sessions; /* by descriptor */
static int poller;

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int fd, int operation, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(poller, operation, fd, &event) < 0)
        fail("epoll_ctl");
}

static void end_session(int fd)
{
    struct session *session = &sessions[fd];
    SSL_free(session->ssl);
    free(session->tail);
    memset(session, 0, sizeof *session);
    close(fd);
}

/* After a call that returned `result`, no more than 0: wait for what OpenSSL asks for, or end the session. */
static void wait_or_end(int fd, int result)
{
    struct session *session = &sessions[fd];
    int error = SSL_get_error(session->ssl, result);
    uint32_t events = error == SSL_ERROR_WANT_WRITE ? EPOLLOUT : EPOLLIN;
    if (error != SSL_ERROR_WANT_READ && error != SSL_ERROR_WANT_WRITE) {
        if (error == SSL_ERROR_ZERO_RETURN)
            SSL_shutdown(session->ssl);
        ERR_clear_error();
        end_session(fd);
    } else if (events != session->events) {
        watch(fd, EPOLL_CTL_MOD, session->events = events);
    }
}

/* Returns 0 if the tail is not sent. */
static int flush(int fd)
{
    struct session *session = &sessions[fd];
    while (session->sent < session->length) {
        int sent = SSL_write(session->ssl, session->tail + session->sent, (int)(session->length - session->sent));
        if (sent <= 0) {
            wait_or_end(fd, sent);
            return 0;
        }
        session->sent += (size_t)sent;
    }
    free(session->tail);
    session->tail = NULL;
    return 1;
}

static void echo(int fd)
{
    struct session *session = &sessions[fd];
    if (session->tail && !flush(fd))
        return;
    do {
        /* The first call does the handshake. */
        int received = SSL_read(session->ssl, buffer, BUFFER_SIZE);
        if (received <= 0) {
            wait_or_end(fd, received);
            return;
        }
        int sent = SSL_write(session->ssl, buffer, received);
        if (__builtin_expect(sent == received, 1))
            continue;
        int done = sent > 0 ? sent : 0;
        session->length = (size_t)(received - done);
        session->sent = 0;
        if (!(session->tail = malloc(session->length)))
            fail("malloc");
        memcpy(session->tail, buffer + done, session->length);
        if (sent <= 0) {
            wait_or_end(fd, sent);
            return;
        }
        if (!flush(fd))
            return;
    } while (SSL_has_pending(session->ssl));
    if (session->events != EPOLLIN)
        watch(fd, EPOLL_CTL_MOD, session->events = EPOLLIN);
}

static void accept_all(int listener, SSL_CTX *context)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = &sessions[fd];
        if (!(session->ssl = SSL_new(context)) || !SSL_set_fd(session->ssl, fd))
            fail("SSL_new");
        SSL_set_accept_state(session->ssl);
        watch(fd, EPOLL_CTL_ADD, session->events = EPOLLIN);
    }
}

static int listen_on(int port)
{
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (fd < 0)
        fail("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* Linux hands the option on to every accepted socket. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (listen(fd, BACKLOG) < 0)
        fail("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &length) < 0)
        fail("getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static SSL_CTX *context_of(const char *pem)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_chain_file(context, pem) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, pem, SSL_FILETYPE_PEM) != 1) {
        ERR_print_errors_fp(stderr);
        exit(1);
    }
    SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: openssl_echo PORT PEM\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    sessions = calloc(limit.rlim_cur, sizeof *sessions);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!sessions || poller < 0)
        fail("start");
    SSL_CTX *context = context_of(argv[2]);
    int listener = listen_on(atoi(argv[1]));
    watch(listener, EPOLL_CTL_ADD, EPOLLIN);

    static struct epoll_event events[BATCH];
    for (;;) {
        int ready = epoll_wait(poller, events, BATCH, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                accept_all(fd, context);
            else
                echo(fd);
        }
    }
}
