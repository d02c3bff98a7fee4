/* The view `commands`: Redis commands from the bytes of any server or client. */
#pragma once

struct view;
extern const struct view commands_view;
extern const struct view command_events_view; /* with --events or --show-keys */
