#!/usr/bin/env python3
"""A subscriber as small as can be: what an opal-client hears, printed as it comes.

usage: subscribe.py ws://127.0.0.1:7002/ws TOPIC...      needs python3-websockets
"""
import asyncio
import json
import sys
import uuid

import websockets


async def main(url, topics):
    async with websockets.connect(url, max_size=None) as socket:
        call = {"method": "subscribe", "arguments": {"topics": topics}, "call_id": uuid.uuid4().hex}
        await socket.send(json.dumps({"request": call, "response": None}))
        async for text in socket:
            message = json.loads(text)
            request = message.get("request")
            if not request:
                print("subscriber  subscribed to", ", ".join(topics), flush=True)
                continue
            event = request["arguments"]
            print("subscriber  heard", event["subscription"]["topic"], json.dumps(event["data"]), flush=True)
            answer = {"result": "None", "result_type": "str", "call_id": request["call_id"]}
            await socket.send(json.dumps({"request": None, "response": answer}))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2:]))
    except (KeyboardInterrupt, websockets.ConnectionClosed):
        pass
