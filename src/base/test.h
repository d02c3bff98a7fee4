/* What every cmocka test file includes first: cmocka's own header needs these four before it. */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* cmocka 2 has a macro of this name, and calls deprecated what cmocka 1 has nothing better for. */
#undef stop
#ifdef assert_int_in_range
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
#endif
