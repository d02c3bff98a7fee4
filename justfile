# The only commands to know; each forwards to ./lab, which does its own set-up.
default:
    @just --list

build *args:
    ./lab build {{args}}

test *args:
    ./lab test {{args}}

bench *args:
    ./lab bench {{args}}

compare a b *args:
    ./lab compare {{a}} {{b}} {{args}}

trace *args:
    ./lab trace {{args}}
