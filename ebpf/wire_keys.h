/* Where a Redis command has its first key: what `--show-keys` may show, and nothing else of its
 * arguments. Pure; any thread. */
#pragma once

enum wire_key_place {
    WIRE_KEY_NONE, /* no key, or a command that is not known here */
    WIRE_KEY_AT_1,
    WIRE_KEY_AT_2,
    WIRE_KEY_AT_3,
    WIRE_KEY_COUNTED, /* a script's: argument 2 is their number, argument 3 the first */
};

/* name: as the views show it ("GET", "CONFIG|SET", "EVALSHA 0123456789ab"). */
enum wire_key_place wire_key_place(const char *name);
