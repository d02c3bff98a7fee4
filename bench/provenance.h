/* What Nix says of a measured program, for the manifest of its result set. Asks the program's own
 * path, not the environment of whoever measures: compare and run --commit measure programs that
 * were built from other commits. Main thread only. */
#pragma once

#include "base/json.h"

/* Adds "nix": {store_path, nar_hash, derivation, nixpkgs_rev, built_from} to the manifest when the
 * program, links followed, lies in the Nix store; else nothing. What Nix does not know is left out.
 * checkout, commit: whose flake.lock names nixpkgs where the commit was built from its own lock.
 * Source of the variables: the wrapper in nix/default.nix. */
void provenance_add(struct json *manifest, const char *program, const char *checkout,
                    const char *commit);
