/* The subcommand `serve`: the views leases and commands as Prometheus metrics on a loopback port.
 */
#pragma once

struct view;
extern const struct view serve_view;
