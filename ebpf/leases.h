/* The view `leases`: the life of tasks under leases, read from the same bytes as the commands. */
#pragma once

struct view;
extern const struct view leases_view;
