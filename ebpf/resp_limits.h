/* Sizes that the RESP reader and those who read its results share. */
#pragma once

#define RESP_WINDOW_BYTES 512 /* looked at at once; a power of two */
#define RESP_PAD_BYTES 128 /* behind it, so that reads of eight bytes stay inside */
#define RESP_NEED_BYTES 112 /* a header and the part of a body that is kept, at most */
#define RESP_CARRY_BYTES 96
#define RESP_NAME_BYTES 24
#define RESP_KEEP_BYTES 64 /* of an argument or reply element that is asked for */
#define RESP_TODO_MAX (1u << 30)
