#include "server/master/handoff.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shm/common/passed_descriptor.h"
#include "shm/link/handoff_message.h"

#define HANDOFF_MESSAGE_MAX 256 /* bytes beside the descriptor; passed on as they are */

unsigned handoff_rescue(int from, int to)
{
    unsigned count = 0;
    for (;;) {
        char payload[HANDOFF_MESSAGE_MAX];
        int descriptor;
        ssize_t length =
            passed_descriptor_receive(from, payload, sizeof payload, MSG_DONTWAIT, &descriptor, NULL);
        if (length <= 0)
            return count;
        if (descriptor < 0)
            continue;
        /* questions and answers die with who was to get them */
        bool connection = length != sizeof(struct handoff_message) || payload[0] == HANDOFF_CONNECTION;
        const struct iovec part = {payload, (size_t)length};
        if (to >= 0 && connection) /* not taken: closed below, and the client comes back */
            (void)!passed_descriptor_send(to, &part, 1, descriptor, MSG_DONTWAIT);
        close(descriptor);
        count += connection;
    }
}
