/* An echo server on libuv as its guide and its own tests write it: a buffer from malloc a read, a write request
 * that carries it, both freed when the write is done; at end of file, shut down, then close.
 *
 * usage: libuv_echo PORT     listens on 127.0.0.1, prints the port when ready */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

typedef struct {
    uv_write_t request;
    uv_buf_t buffer;
} write_request;

static void check(int status, const char *what)
{
    if (status < 0) {
        fprintf(stderr, "libuv_echo: %s: %s\n", what, uv_strerror(status));
        exit(1);
    }
}

static void on_close(uv_handle_t *handle)
{
    free(handle);
}

static void end_session(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, on_close);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)status;
    end_session((uv_handle_t *)request->handle);
    free(request);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    *buffer = uv_buf_init(malloc(suggested), (unsigned)suggested);
}

static void on_write(uv_write_t *request, int status)
{
    write_request *write = (write_request *)request;
    if (status < 0)
        end_session((uv_handle_t *)request->handle);
    free(write->buffer.base);
    free(write);
}

static void on_read(uv_stream_t *client, ssize_t length, const uv_buf_t *buffer)
{
    if (length > 0) {
        write_request *write = malloc(sizeof *write);
        write->buffer = uv_buf_init(buffer->base, (unsigned)length);
        if (uv_write(&write->request, client, &write->buffer, 1, on_write) < 0) {
            free(write->buffer.base);
            free(write);
            end_session((uv_handle_t *)client);
        }
        return;
    }
    free(buffer->base);
    if (length == UV_EOF) {
        uv_shutdown_t *request = malloc(sizeof *request);
        if (uv_shutdown(request, client, on_shutdown) == 0)
            return;
        free(request);
    }
    if (length < 0)
        end_session((uv_handle_t *)client);
}

static void on_connection(uv_stream_t *server, int status)
{
    if (status < 0)
        return;
    uv_tcp_t *client = malloc(sizeof *client);
    uv_tcp_init(server->loop, client);
    if (uv_accept(server, (uv_stream_t *)client) == 0)
        uv_read_start((uv_stream_t *)client, on_allocate, on_read);
    else
        end_session((uv_handle_t *)client);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: libuv_echo PORT\n");
        return 2;
    }
    uv_loop_t *loop = uv_default_loop();
    uv_tcp_t server;
    struct sockaddr_in address;
    int length = sizeof address;
    check(uv_tcp_init(loop, &server), "init");
    check(uv_ip4_addr("127.0.0.1", atoi(argv[1]), &address), "address");
    check(uv_tcp_bind(&server, (const struct sockaddr *)&address, 0), "bind");
    /* On the listener, once there is a socket: Linux hands the option on to every accepted one. */
    check(uv_tcp_nodelay(&server, 1), "nodelay");
    check(uv_listen((uv_stream_t *)&server, 4096, on_connection), "listen");
    check(uv_tcp_getsockname(&server, (struct sockaddr *)&address, &length), "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return uv_run(loop, UV_RUN_DEFAULT);
}
