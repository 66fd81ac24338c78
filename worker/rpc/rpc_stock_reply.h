/*
 * The reply that the stock client (fastapi_websocket_rpc) sends to every notify, recognised without parsing.
 * One comes back for each delivery, so this is the most frequent input of a worker by far:
 *
 *   {"request": null, "response": {"result": "None", "result_type": "str", "call_id": "<32 hex digits>"}}
 *
 * Pure; anything else is left to the general parsers, whose outcome for this text is to do nothing.
 */
#ifndef OPALD_WORKER_RPC_RPC_STOCK_REPLY_H
#define OPALD_WORKER_RPC_RPC_STOCK_REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "shm/common/text.h"

#define RPC_STOCK_REPLY_LENGTH 118
/* As the client frames it: two bytes of head, four of mask. */
#define RPC_STOCK_REPLY_FRAME (6 + RPC_STOCK_REPLY_LENGTH)

/* True for exactly that text. */
bool rpc_is_stock_reply(struct slice text);

/* Bytes at the start of `bytes` that are whole, masked, unfragmented frames with that text: a multiple of
 * RPC_STOCK_REPLY_FRAME, 0 when the first frame is anything else or not all there. The input is not changed.
 * Only for a parser that is between messages. */
size_t rpc_stock_reply_skip(const uint8_t *bytes, size_t length);

#endif
