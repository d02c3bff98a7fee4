#include "lease_rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codeqd_scripts.h"
#include "wire_user.h"

#define RULES_BYTES_MAX 65536

/* Source: src/store/lua/NAME.lua, the lines KEYS, ARGV and reply. Arguments 0 to 3 are EVALSHA, the
 * SHA, the number of keys and the tag. */
static const char codeqd_rules[] = "scheduler codeqd\n"
                                   "create    script=create    id=arg:6:2+len4 bytes=16\n"
                                   "claim     script=claim     id=reply:2:2\n"
                                   "heartbeat script=heartbeat id=arg:5:2 skip=1\n"
                                   "complete  script=complete  id=arg:5:2 skip=1\n"
                                   "nack      script=nack      id=arg:6:3 skip=1\n"
                                   "abandon   script=abandon   id=arg:5:1 skip=1\n"
                                   "sweep     script=sweep     id=reply:1\n";

static const char *const event_names[] = {"create", "claim",   "heartbeat", "complete",
                                          "nack",   "abandon", "sweep"};

const char *lease_event_name(enum lease_event event)
{
    return event_names[event];
}

int lease_pattern_matches(const char *pattern, const char *text, size_t bytes)
{
    size_t n = strlen(pattern);
    int open_start = n > 0 && pattern[0] == '*';
    int open_end = n > 1 && pattern[n - 1] == '*';
    const char *core = pattern + open_start;
    size_t core_len = n - (size_t)open_start - (size_t)open_end;
    if (core_len > bytes) {
        return 0;
    }
    if (open_start && open_end) {
        return memmem(text, bytes, core, core_len) != NULL;
    }
    if (open_start) {
        return memcmp(text + bytes - core_len, core, core_len) == 0;
    }
    return (open_end || core_len == bytes) && memcmp(text, core, core_len) == 0;
}

static int whole(const char *text, int max, int *out)
{
    char *end;
    long n = strtol(text, &end, 10);
    if (end == text || *end != '\0' || n < 0 || n > max) {
        return -EINVAL;
    }
    *out = (int)n;
    return 0;
}

static int parse_where(struct lease_rule *rule, char *text)
{
    char *first = strchr(text, ':');
    if (first == NULL) {
        return -EINVAL;
    }
    *first++ = '\0';
    if (strcmp(text, "arg") == 0) {
        rule->where = LEASE_ARG;
    } else if (strcmp(text, "reply") == 0) {
        rule->where = LEASE_REPLY;
    } else if (strcmp(text, "member") == 0) {
        rule->where = LEASE_MEMBER;
    } else {
        return -EINVAL;
    }
    char *step = strchr(first, ':');
    if (step != NULL) {
        *step++ = '\0';
        char *plus = strstr(step, "+len");
        if (plus != NULL) {
            *plus = '\0';
            if (whole(plus + 4, 62, &rule->step_len_arg) != 0) {
                return -EINVAL;
            }
        }
        if (whole(step, 62, &rule->step) != 0) {
            return -EINVAL;
        }
    }
    return whole(first, 62, &rule->first);
}

static int parse_field(struct lease_rule *rule, char *field)
{
    char *value = strchr(field, '=');
    if (value == NULL) {
        return -EINVAL;
    }
    *value++ = '\0';
    if (strcmp(field, "script") == 0) {
        snprintf(rule->script, sizeof rule->script, "%s", value);
    } else if (strcmp(field, "command") == 0) {
        snprintf(rule->command, sizeof rule->command, "%s", value);
    } else if (strcmp(field, "keys") == 0) {
        return whole(value, 60, &rule->keys);
    } else if (strcmp(field, "key") == 0) {
        char *pattern = strchr(value, ':');
        if (pattern == NULL || rule->key_len == LEASE_KEYS_MAX) {
            return -EINVAL;
        }
        *pattern++ = '\0';
        snprintf(rule->key_pattern[rule->key_len], sizeof rule->key_pattern[0], "%s", pattern);
        return whole(value, 60, &rule->key_index[rule->key_len++]);
    } else if (strcmp(field, "id") == 0) {
        return parse_where(rule, value);
    } else if (strcmp(field, "skip") == 0) {
        return whole(value, 32, &rule->skip);
    } else if (strcmp(field, "bytes") == 0) {
        return whole(value, 64, &rule->bytes);
    } else {
        return -EINVAL;
    }
    return 0;
}

static int parse_line(struct lease_rules *rules, char scheduler[32], char *line)
{
    char *save = NULL;
    char *word = strtok_r(line, " \t\r", &save);
    if (word == NULL || word[0] == '#') {
        return 0;
    }
    if (strcmp(word, "scheduler") == 0) {
        char *name = strtok_r(NULL, " \t\r", &save);
        if (name == NULL) {
            return -EINVAL;
        }
        snprintf(scheduler, 32, "%s", name);
        return 0;
    }
    if (strcmp(word, "sha") == 0) {
        char *name = strtok_r(NULL, " \t\r", &save);
        char *sha = strtok_r(NULL, " \t\r", &save);
        if (sha == NULL || strlen(sha) != 40) {
            return -EINVAL;
        }
        wire_script_name(sha, name);
        return 0;
    }
    if (rules->len == LEASE_RULES_MAX || scheduler[0] == '\0') {
        return -EINVAL;
    }
    struct lease_rule rule = {.keys = -1, .event = LEASE_EVENTS};
    snprintf(rule.scheduler, sizeof rule.scheduler, "%s", scheduler);
    for (int i = 0; i < LEASE_EVENTS; i++) {
        if (strcmp(word, event_names[i]) == 0) {
            rule.event = (enum lease_event)i;
        }
    }
    int id_seen = 0;
    while ((word = strtok_r(NULL, " \t\r", &save)) != NULL) {
        id_seen |= strncmp(word, "id=", 3) == 0;
        if (parse_field(&rule, word) != 0) {
            return -EINVAL;
        }
    }
    int matches =
        rule.script[0] != '\0' || rule.command[0] != '\0' || rule.keys >= 0 || rule.key_len > 0;
    if (rule.event == LEASE_EVENTS || !id_seen || !matches) {
        return -EINVAL;
    }
    rules->rule[rules->len++] = rule;
    return 0;
}

int lease_rules_parse(struct lease_rules *rules, const char *source, const char *text,
                      struct err *err)
{
    char scheduler[32] = "";
    int number = 0;
    while (*text != '\0') {
        char line[512];
        size_t n = strcspn(text, "\n");
        number++;
        if (n >= sizeof line) {
            return err_set(err, -EINVAL, "%s: line %d: longer than 511 bytes", source, number);
        }
        memcpy(line, text, n);
        line[n] = '\0';
        if (parse_line(rules, scheduler, line) != 0) {
            return err_set(err, -EINVAL,
                           "%s: line %d: not a rule: write it like: claim script=NAME id=reply:2",
                           source, number);
        }
        text += n + (text[n] == '\n');
    }
    return 0;
}

int lease_rules_load(struct lease_rules *rules, const char *path, struct err *err)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        int code = -errno;
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    char *text = calloc(1, RULES_BYTES_MAX + 1);
    size_t n = text != NULL ? fread(text, 1, RULES_BYTES_MAX, file) : 0;
    fclose(file);
    int code = n == RULES_BYTES_MAX ? err_set(err, -EFBIG, "%s: above 64 KiB", path)
                                    : lease_rules_parse(rules, path, text, err);
    free(text);
    return code;
}

int lease_rules_builtin(struct lease_rules *rules, struct err *err)
{
    for (size_t i = 0; i < sizeof codeqd_scripts / sizeof codeqd_scripts[0]; i++) {
        wire_script_name(codeqd_scripts[i].sha, codeqd_scripts[i].name);
    }
    return lease_rules_parse(rules, "built-in rules", codeqd_rules, err);
}
