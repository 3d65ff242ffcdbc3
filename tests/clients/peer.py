"""A server and a client of gRPC.

`peer.py serve ADDRESS` prints `ADDRESS:PORT` once it listens, and answers every call with that.
`peer.py call` reads a target and a number of seconds per line, calls the target, and prints the answer as JSON.
Both end with their input. With certificates in the directory `$PEER_TLS` they speak TLS, the client by its bootstrap.
"""

import json
import os
import sys
from concurrent import futures

import grpc
import grpc.experimental

SERVICE = "tombolo.test.Peer"
TLS = os.environ.get("PEER_TLS")


def file(name):
    with open(os.path.join(TLS, name), "rb") as opened:
        return opened.read()


def serve(address):
    server = grpc.server(futures.ThreadPoolExecutor(2))
    name = []
    who = grpc.unary_unary_rpc_method_handler(lambda request, context: name[0].encode())
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Who": who}),))
    if TLS:
        pair = (file("server.key"), file("server.pem"))
        credentials = grpc.ssl_server_credentials([pair], file("root.pem"), require_client_auth=True)
        port = server.add_secure_port(address + ":0", credentials)
    else:
        port = server.add_insecure_port(address + ":0")
    name.append(f"{address}:{port}")
    server.start()
    print(name[0], flush=True)
    sys.stdin.read()
    server.stop(None)


def channel(target):
    if TLS:
        fallback = grpc.experimental.insecure_channel_credentials()
        return grpc.secure_channel(target, grpc.xds_channel_credentials(fallback))
    return grpc.insecure_channel(target)


def call():
    channels = {}
    for line in sys.stdin:
        target, seconds = line.split()
        if target not in channels:
            channels[target] = channel(target)
        who = channels[target].unary_unary(f"/{SERVICE}/Who")
        try:
            answer = {"answer": who(b"", timeout=float(seconds)).decode()}
        except grpc.RpcError as error:
            answer = {"code": error.code().name, "details": error.details()}
        print(json.dumps(answer), flush=True)


if sys.argv[1] == "serve":
    serve(sys.argv[2])
else:
    call()
