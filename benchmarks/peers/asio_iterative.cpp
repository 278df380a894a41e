// The oldest ancestor: blocking calls, one client at a time; the others wait in the listen queue.
//
// usage: asio_iterative PORT     listens on 127.0.0.1, prints the port when ready

#include <array>
#include <cstdlib>
#include <iostream>
#include <system_error>

#include <asio.hpp>

#ifndef ARRAY_SIZE
#define ARRAY_SIZE 1024
#endif

using asio::ip::tcp;

static void serve(tcp::socket socket)
{
    std::array<char, ARRAY_SIZE> data;
    for (;;) {
        std::error_code error;
        const std::size_t length = socket.read_some(asio::buffer(data), error);
        if (error)
            return;
        asio::write(socket, asio::buffer(data, length), error);
        if (error || data[length - 1] == '\0')
            return;
    }
}

int main(int argc, char** argv)
{
    if (argc != 2) {
        std::cerr << "usage: asio_iterative PORT\n";
        return 2;
    }
    try {
        asio::io_context context;
        const tcp::endpoint endpoint(asio::ip::address_v4::loopback(),
                                     static_cast<unsigned short>(std::atoi(argv[1])));
        tcp::acceptor acceptor(context);
        acceptor.open(endpoint.protocol());
        acceptor.set_option(tcp::acceptor::reuse_address(true));
        acceptor.set_option(tcp::no_delay(true));
        acceptor.bind(endpoint);
        acceptor.listen(4096);
        std::cout << acceptor.local_endpoint().port() << std::endl;
        for (;;)
            serve(acceptor.accept());
    } catch (const std::exception& error) {
        std::cerr << "asio_iterative: " << error.what() << '\n';
        return 1;
    }
}
