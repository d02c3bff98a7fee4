/* The view `timeline`: some seconds of commands, system calls and waits into a file that Perfetto
 * and chrome://tracing open. */
#pragma once

struct view;
extern const struct view timeline_view;
