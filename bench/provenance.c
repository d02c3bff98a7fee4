#include "provenance.h"

#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/child.h"
#include "base/clock.h"

#define STORE "/nix/store/"
#define ASK_TIMEOUT_NS (20 * NS_PER_SEC)
#define LINE_BYTES 256

/* The first line that the command prints; "" when it fails. */
static void ask(const char *const *argv, char out[LINE_BYTES])
{
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL, *errors = NULL;
    int code = child_run(&options, clock_monotonic_ns(clock_system()) + ASK_TIMEOUT_NS, &text,
                         &errors, NULL);
    snprintf(out, LINE_BYTES, "%.*s", code == 0 ? (int)strcspn(text, "\n") : 0,
             code == 0 ? text : "");
    free(text);
    free(errors);
}

static void add(struct json *to, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0') {
        json_add_string(to, name, value);
    }
}

/* The revision of nixpkgs that the commit's own lock names; "" when there is none. */
static void locked_nixpkgs(const char *checkout, const char *commit, char out[LINE_BYTES])
{
    char spec[160];
    snprintf(spec, sizeof spec, "%.120s:flake.lock", commit);
    const char *const argv[] = {"git", "-C", checkout, "show", spec, NULL};
    struct child_options options = {.argv = argv, .cpu = -1};
    char *text = NULL, *errors = NULL;
    out[0] = '\0';
    if (child_run(&options, clock_monotonic_ns(clock_system()) + ASK_TIMEOUT_NS, &text, &errors,
                  NULL) == 0) {
        struct json *lock = json_parse(text, strlen(text), NULL);
        static const char *const path[] = {"nodes", "nixpkgs", "locked", "rev"};
        const struct json *at = lock;
        for (size_t i = 0; i < sizeof path / sizeof *path && at != NULL; i++) {
            at = json_get(at, path[i]);
        }
        snprintf(out, LINE_BYTES, "%s", at != NULL ? json_string(at, "") : "");
        json_free(lock);
    }
    free(text);
    free(errors);
}

void provenance_add(struct json *manifest, const char *program, const char *checkout,
                    const char *commit)
{
    char path[PATH_MAX], answer[LINE_BYTES];
    if (program[0] == '\0' || realpath(program, path) == NULL ||
        strncmp(path, STORE, strlen(STORE)) != 0) {
        return;
    }
    path[strlen(STORE) + strcspn(path + strlen(STORE), "/")] = '\0';
    struct json *nix = json_add_object(manifest, "nix");
    add(nix, "store_path", path);
    ask((const char *const[]){"nix-store", "--query", "--hash", path, NULL}, answer);
    add(nix, "nar_hash", answer);
    ask((const char *const[]){"nix-store", "--query", "--deriver", path, NULL}, answer);
    add(nix, "derivation", strncmp(answer, STORE, strlen(STORE)) == 0 ? answer : NULL);

    const char *own = getenv("CODEQ_LAB_STORE_PATH");
    const char *flags = getenv("CODEQ_LAB_NIX_FLAGS");
    if (own != NULL && strcmp(own, path) == 0) { /* the wrapper's own program */
        add(nix, "nixpkgs_rev", getenv("CODEQ_LAB_NIXPKGS_REV"));
        add(nix, "built_from", getenv("CODEQ_LAB_REV"));
        return;
    }
    if (flags != NULL && flags[0] != '\0') { /* the wrapper's toolchain, held still */
        add(nix, "nixpkgs_rev", getenv("CODEQ_LAB_NIXPKGS_REV"));
    } else {
        locked_nixpkgs(checkout, commit, answer);
        add(nix, "nixpkgs_rev", answer);
    }
    add(nix, "built_from", commit);
}
