# The folders, from the bottom up, and what each may include: what its line names, and all that those may include.
# The Makefile links a unit test with the archives of its folder and of these; tests/layout checks every #include.

knows_shm/common            :=
knows_shm                   := shm/common
knows_shm/link              := shm

knows_broadcast/backend     := shm/common
knows_broadcast/net         := shm/common
knows_broadcast/relay       := broadcast/backend
knows_broadcast/kafka       := broadcast/backend
knows_broadcast/redis       := broadcast/relay broadcast/net
knows_broadcast/postgres    := broadcast/relay broadcast/net
knows_broadcast             := broadcast/kafka broadcast/redis broadcast/postgres

knows_worker/net            := shm
knows_worker/rpc            := shm/common
knows_worker/jose           := shm/common
knows_worker/topics         := worker/net worker/rpc worker/jose
knows_worker/auth           := worker/net worker/rpc worker/jose
knows_worker/http           := worker/topics worker/auth shm/link
knows_worker/websocket      := worker/http
knows_worker/policy         := worker/http
knows_worker/api            := worker/policy
knows_worker/client         := worker/websocket worker/api
knows_worker/fanout         := worker/client
knows_worker                := worker/fanout

knows_server/options        := shm
knows_server/router         := shm/link broadcast
knows_server/policy/bundle  := shm/common
knows_server/policy/source  := server/policy/bundle shm/link
knows_server/policy         := server/policy/source
knows_server/statistics     := server/options server/router server/policy
knows_server/command        := server/options server/router server/policy worker
knows_server/master         := server/statistics server/command worker
knows_server                := server/master
