/* Clients that read less than they are sent, as a stuck or overloaded agent does. */
#include <errno.h>
#include <sys/socket.h>
#include "tests/bench/load_client.h"

#define SLOW_TURN_NS 20000000U

void swarm_slow_turn(struct swarm *swarm)
{
    static unsigned char scrap[READ_BYTES];
    const uint64_t now = load_now();
    if (swarm->settings.slow == 0 || now - swarm->slow_turned < SLOW_TURN_NS) {
        return;
    }
    swarm->slow_turned = now;
    for (unsigned i = swarm->settings.clients - swarm->settings.slow; i < swarm->opened; i++) {
        struct client *client = &swarm->clients[i];
        if (client->state != CLIENT_READY) {
            continue;
        }
        double due = (double)(now - client->slow_since) * 1e-9 * swarm->settings.slow_rate;
        due = due > READ_BYTES ? READ_BYTES : due;
        if (due < 1024) {
            continue;
        }
        client->slow_since = now;
        const ssize_t got = recv(client->descriptor, scrap, (size_t)due, MSG_DONTWAIT);
        if (got > 0) {
            swarm->tally.slow_bytes += (uint64_t)got;
        } else if (got == 0 || errno != EAGAIN) {
            client_end(client);
        }
    }
}
