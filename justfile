# The only commands to know; each forwards to ./lab, which does its own set-up.
default:
    @just --list

# programs and tests under build/
build *args:
    ./lab build {{args}}

# build everything, run every test
test *args:
    ./lab test {{args}}

# the same under the address and undefined behaviour sanitizers
test-san *args:
    ./lab test --san {{args}}

# warnings fatal, format, shell scripts
lint *args:
    ./.ci/lint {{args}}

# measure, count and profile; writes a result set
bench *args:
    ./lab bench {{args}}

# measure the commits of A..B that have no result set
backfill range *args:
    ./lab backfill {{range}} {{args}}

# what did commit B change against commit A?
compare a b *args:
    ./lab compare {{a}} {{b}} {{args}}

# watch a live scheduler or Redis
trace *args:
    ./lab trace {{args}}

# the scheduler's service
serve *args:
    ./lab serve {{args}}

# what a cycle over HTTP costs codeqd, Redis and the client (--help: its options)
limits *args:
    ./lab build
    ninja -C build src/service/service-limit
    build/src/service/service-limit --codeqd build/src/codeqd {{args}}

# the load generator beside wrk and h2load on one server: rate, CPU a request, percentiles
beside build="build" *args:
    ./bench/beside.py {{build}} {{args}}

# the history of results/ and a page for each set, as a static site in a new folder
site dir="build/site":
    ./lab report --site {{dir}}

# what this machine can and cannot measure
doctor *args:
    ./lab doctor {{args}}

# run README.md's command blocks again; --long: those of minutes too
readme *args:
    ./lab readme {{args}}
