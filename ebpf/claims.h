/* `leases --via usdt`: the same calls and leases as the view `leases`, from the probe points of
 * codeqd and of the library codeq, and each claim split into HTTP parse, scheduler, Redis wait and
 * response. Sees claims also where the connection to Redis is encrypted. */
#pragma once

struct view;
extern const struct view claims_view;
