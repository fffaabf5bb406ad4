/* listen_on: a preloaded bind() that puts a program's "any address" on one address.

   Open MPI's launcher and its TCP transport, and TensorFlow's servers, always listen on all
   interfaces; none has a setting for it. Preloaded, this replaces that address, for stream sockets, by
   this machine's one address in the networks of $EAI_LISTEN ("127.0.0.0/8" or "10.1.2.0/24,..."). If it
   has none or several there, nothing is changed. eai_listen_on() sets other networks later; "" ends it. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static char networks[1024];
static int is_set;

static int is_in(struct in_addr address, const char *text, size_t length) {
    char copy[64], *slash;
    struct in_addr network;
    int bits;
    if (length >= sizeof copy) return 0;
    memcpy(copy, text, length);
    copy[length] = 0;
    if (!(slash = strchr(copy, '/'))) return 0;
    *slash = 0;
    bits = atoi(slash + 1);
    if (bits < 1 || bits > 32 || inet_pton(AF_INET, copy, &network) != 1) return 0;
    return ((ntohl(address.s_addr) ^ ntohl(network.s_addr)) >> (32 - bits)) == 0;
}

static int chosen(struct in_addr *found) {
    struct ifaddrs *all, *one;
    const char *begin;
    int count = 0;
    if (!networks[0] || getifaddrs(&all)) return 0;
    for (one = all; one; one = one->ifa_next) {
        struct in_addr address;
        if (!one->ifa_addr || one->ifa_addr->sa_family != AF_INET) continue;
        address = ((struct sockaddr_in *)one->ifa_addr)->sin_addr;
        for (begin = networks; *begin;) {
            size_t length = strcspn(begin, ",");
            if (is_in(address, begin, length)) {
                if (!count || found->s_addr != address.s_addr) count++;
                *found = address;
                break;
            }
            begin += length + (begin[length] == ',');
        }
    }
    freeifaddrs(all);
    return count == 1;
}

void eai_listen_on(const char *text) {
    is_set = 1;
    networks[0] = 0;
    if (strlen(text) < sizeof networks) strcpy(networks, text);
}

static int real_bind(int fd, const void *address, socklen_t length) {
    return (int)syscall(SYS_bind, fd, address, length);
}

int bind(int fd, const struct sockaddr *address, socklen_t length) {
    const struct sockaddr_in *four = (const struct sockaddr_in *)address;
    const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
    struct in_addr found;
    int kind = 0, alone = 0;
    socklen_t size = sizeof kind;
    if (!is_set) {
        const char *named = getenv("EAI_LISTEN");
        eai_listen_on(named ? named : "");
    }
    if (!address || getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) || kind != SOCK_STREAM)
        return real_bind(fd, address, length);
    if (address->sa_family == AF_INET && length >= sizeof *four && four->sin_addr.s_addr == INADDR_ANY &&
        chosen(&found)) {
        struct sockaddr_in mine = *four;
        mine.sin_addr = found;
        return real_bind(fd, &mine, sizeof mine);
    }
    if (address->sa_family == AF_INET6 && length >= sizeof *six && IN6_IS_ADDR_UNSPECIFIED(&six->sin6_addr) &&
        chosen(&found)) {
        struct sockaddr_in6 mine = *six;
        size = sizeof alone;
        if (getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &alone, &size) == 0 && !alone) {
            memset(&mine.sin6_addr, 0, 10);
            memset(mine.sin6_addr.s6_addr + 10, 0xff, 2);
            memcpy(mine.sin6_addr.s6_addr + 12, &found, 4);
        } else {
            mine.sin6_addr = in6addr_loopback; /* an IPv4 network has no other address to give it */
        }
        return real_bind(fd, &mine, sizeof mine);
    }
    return real_bind(fd, address, length);
}
