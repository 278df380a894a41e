// The asynchronous echo server of Boost.Asio, on standalone Asio: AServer accepts, ASession reads some into an
// array, writes it back, and ends the connection when what it read ends in NUL.
//
// ARRAY_SIZE is a compile-time constant, as in the original; it is built at 1 KiB and at 64 KiB.
//
// usage: asio_echo PORT     listens on 127.0.0.1, prints the port when ready

#include <array>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <system_error>
#include <utility>

#include <asio.hpp>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE 1024
#endif

using asio::ip::tcp;

class ASession : public std::enable_shared_from_this<ASession> {
public:
    explicit ASession(tcp::socket socket) : socket_(std::move(socket)) {}

    void start() { read(); }

private:
    void read()
    {
        auto self = shared_from_this();
        socket_.async_read_some(asio::buffer(data_), [this, self](std::error_code error, std::size_t length) {
            // Without a further operation the last reference goes, and the socket with it.
            if (!error)
                write(length);
        });
    }

    void write(std::size_t length)
    {
        auto self = shared_from_this();
        const bool last = data_[length - 1] == '\0';
        asio::async_write(socket_, asio::buffer(data_, length),
                          [this, self, last](std::error_code error, std::size_t) {
                              if (!error && !last)
                                  read();
                          });
    }

    tcp::socket socket_;
    std::array<char, ARRAY_SIZE> data_;
};

class AServer {
public:
    AServer(asio::io_context& context, unsigned short port) : acceptor_(context)
    {
        const tcp::endpoint endpoint(asio::ip::address_v4::loopback(), port);
        acceptor_.open(endpoint.protocol());
        acceptor_.set_option(tcp::acceptor::reuse_address(true));
        // Linux hands the option on to every accepted socket: one system call less a connection.
        acceptor_.set_option(tcp::no_delay(true));
        acceptor_.bind(endpoint);
        acceptor_.listen(4096);
        accept();
    }

    unsigned short port() const { return acceptor_.local_endpoint().port(); }

private:
    void accept()
    {
        acceptor_.async_accept([this](std::error_code error, tcp::socket socket) {
            if (!error)
                std::make_shared<ASession>(std::move(socket))->start();
            accept();
        });
    }

    tcp::acceptor acceptor_;
};

int main(int argc, char** argv)
{
    if (argc != 2) {
        std::cerr << "usage: asio_echo PORT\n";
        return 2;
    }
    try {
        // The hint that one thread runs the loop: as a program written for speed would pass.
        asio::io_context context(1);
        AServer server(context, static_cast<unsigned short>(std::atoi(argv[1])));
        std::cout << server.port() << std::endl;
        context.run();
    } catch (const std::exception& error) {
        std::cerr << "asio_echo: " << error.what() << '\n';
        return 1;
    }
}
