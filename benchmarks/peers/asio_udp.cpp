// The asynchronous UDP echo server of Boost.Asio's examples, on standalone Asio: it receives one datagram, sends it
// back to its source, and receives the next. It has no loop protection and no limit of rate.
//
// usage: asio_udp PORT     binds 127.0.0.1, prints the port when ready

#include <array>
#include <cstdlib>
#include <iostream>
#include <system_error>

#include <asio.hpp>

using asio::ip::udp;

class UdpServer {
public:
    UdpServer(asio::io_context& context, unsigned short port)
        : socket_(context, udp::endpoint(asio::ip::address_v4::loopback(), port))
    {
        // As fastecho asks for, so that a burst is not lost by one of them only.
        socket_.set_option(asio::socket_base::receive_buffer_size(4 << 20));
        receive();
    }

    unsigned short port() const { return socket_.local_endpoint().port(); }

private:
    void receive()
    {
        socket_.async_receive_from(asio::buffer(data_), source_, [this](std::error_code error, std::size_t length) {
            if (error)
                receive();
            else
                send(length);
        });
    }

    void send(std::size_t length)
    {
        socket_.async_send_to(asio::buffer(data_, length), source_, [this](std::error_code, std::size_t) { receive(); });
    }

    udp::socket socket_;
    udp::endpoint source_;
    std::array<char, 65535> data_;
};

int main(int argc, char** argv)
{
    if (argc != 2) {
        std::cerr << "usage: asio_udp PORT\n";
        return 2;
    }
    try {
        asio::io_context context(1);
        UdpServer server(context, static_cast<unsigned short>(std::atoi(argv[1])));
        std::cout << server.port() << std::endl;
        context.run();
    } catch (const std::exception& error) {
        std::cerr << "asio_udp: " << error.what() << '\n';
        return 1;
    }
}
