#include "lease_rules.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
                                          "nack",   "abandon", "expire",    "sweep"};

const char *lease_event_name(enum lease_event event)
{
    return event_names[event];
}

int lease_pattern_matches(const char *pattern, const char *text, size_t bytes)
{
    const char *end = text + bytes;
    const char *star = NULL; /* the last one passed, and how far it reaches */
    const char *reach = NULL;
    while (text < end || *pattern == '*') {
        if (*pattern == '*') {
            star = pattern++;
            reach = text;
        } else if (*pattern != '\0' && *pattern == *text) {
            pattern++;
            text++;
        } else if (star != NULL && reach < end) {
            pattern = star + 1;
            text = ++reach;
        } else {
            return 0;
        }
    }
    return *pattern == '\0';
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

/* Names become labels. */
static bool is_name(const char *text, size_t bytes_max)
{
    size_t n = strlen(text);
    return n > 0 && n < bytes_max &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static const char *parse_where(struct lease_rule *rule, char *text)
{
    static const char *const names[] = {"arg", "reply", "member", "packed"};
    static const char wrong[] = "id is none, or arg, reply, member or packed and :NUMBER up to 62";
    if (strcmp(text, "none") == 0) {
        rule->where = LEASE_NOWHERE;
        return NULL;
    }
    char *first = strchr(text, ':');
    int where = -1;
    if (first == NULL) {
        return wrong;
    }
    *first++ = '\0';
    for (int i = 0; i < 4; i++) {
        where = strcmp(text, names[i]) == 0 ? i : where;
    }
    if (where < 0) {
        return wrong;
    }
    rule->where = (enum lease_where)where;
    char *step = strchr(first, ':');
    if (step != NULL) {
        *step++ = '\0';
        char *plus = strstr(step, "+len");
        if (plus != NULL) {
            *plus = '\0';
            if (whole(plus + 4, 62, &rule->step_len_arg) != 0) {
                return "the argument of +len is a number up to 62";
            }
        }
        if (whole(step, 62, &rule->step) != 0) {
            return "a step is a number up to 62";
        }
        if (where >= LEASE_MEMBER) {
            return "only arg and reply have a step";
        }
    }
    return whole(first, 62, &rule->first) == 0 ? NULL : wrong;
}

static const char *parse_key(struct lease_rule *rule, char *value)
{
    char *pattern = strchr(value, ':');
    if (pattern == NULL || rule->key_len == LEASE_KEYS_MAX) {
        return "write at most 4 keys like key=1:*:wait";
    }
    *pattern++ = '\0';
    if (strlen(pattern) >= sizeof rule->key_pattern[0] || *pattern == '\0') {
        return "a pattern of a key has 1 to 47 bytes";
    }
    strcpy(rule->key_pattern[rule->key_len], pattern);
    int *index = &rule->key_index[rule->key_len++];
    return whole(value, 60, index) == 0 && *index > 0 ? NULL : "keys are numbered from 1 to 60";
}

static const char *parse_field(struct lease_rule *rule, char *field)
{
    char *value = strchr(field, '=');
    if (value == NULL) {
        return "every word behind the event is NAME=VALUE";
    }
    *value++ = '\0';
    if (strcmp(field, "script") == 0) {
        snprintf(rule->script, sizeof rule->script, "%s", value);
        return is_name(value, sizeof rule->script) ? NULL : "a script's name has 1 to 31 letters";
    }
    if (strcmp(field, "command") == 0) {
        snprintf(rule->command, sizeof rule->command, "%s", value);
        for (char *c = rule->command; *c != '\0'; c++) {
            *c = (char)toupper((unsigned char)*c);
        }
        /* As the kernel side keeps them: 24 bytes. */
        return is_name(value, 24) ? NULL : "a command has 1 to 23 letters";
    }
    if (strcmp(field, "keys") == 0) {
        return whole(value, 60, &rule->keys) == 0 ? NULL : "keys is a number up to 60";
    }
    if (strcmp(field, "key") == 0) {
        return parse_key(rule, value);
    }
    if (strcmp(field, "id") == 0) {
        return parse_where(rule, value);
    }
    if (strcmp(field, "skip") == 0) {
        return whole(value, 32, &rule->skip) == 0 ? NULL : "skip is a number of bytes up to 32";
    }
    if (strcmp(field, "bytes") == 0) {
        return whole(value, 64, &rule->bytes) == 0 ? NULL : "bytes is a number up to 64";
    }
    return "there are script, command, keys, key, id, skip and bytes";
}

static const char *parse_rule(struct lease_rule *rule, const char *event, char **save)
{
    for (int i = 0; i < LEASE_EVENTS; i++) {
        if (strcmp(event, event_names[i]) == 0) {
            rule->event = (enum lease_event)i;
        }
    }
    if (rule->event == LEASE_EVENTS) {
        return "a line begins with scheduler, sha, or one of create, claim, heartbeat, complete, "
               "nack, abandon, expire, sweep";
    }
    int id_seen = 0;
    for (char *word; (word = strtok_r(NULL, " \t\r", save)) != NULL;) {
        id_seen |= strncmp(word, "id=", 3) == 0;
        const char *why = parse_field(rule, word);
        if (why != NULL) {
            return why;
        }
    }
    bool script = strncmp(rule->command, "EVAL", 4) == 0 || strncmp(rule->command, "FCALL", 5) == 0;
    rule->plain = rule->command[0] != '\0' && !script;
    if (!id_seen) {
        return "write where the id is: id=arg:1, id=reply:0, or id=none";
    }
    if (rule->script[0] == '\0' && rule->command[0] == '\0' && rule->keys < 0 &&
        rule->key_len == 0) {
        return "write how the call is recognised: script, command, keys or key";
    }
    if (rule->plain && (rule->script[0] != '\0' || rule->keys >= 0)) {
        return "a plain command has neither script nor keys";
    }
    if (rule->plain && rule->where != LEASE_ARG && rule->where != LEASE_NOWHERE) {
        return "the id of a plain command is an argument";
    }
    for (int k = 0; rule->plain && rule->where == LEASE_ARG && k < rule->key_len; k++) {
        if (rule->key_index[k] > rule->first) {
            return "the keys of a plain command stand before its id";
        }
    }
    return NULL;
}

/* NULL, or what is wrong. */
static const char *parse_line(struct lease_rules *rules, char scheduler[32], char *line)
{
    char *save = NULL;
    char *word = strtok_r(line, " \t\r", &save);
    if (word == NULL || word[0] == '#') {
        return NULL;
    }
    if (strcmp(word, "scheduler") == 0) {
        char *name = strtok_r(NULL, " \t\r", &save);
        if (name == NULL || !is_name(name, 32)) {
            return "a scheduler's name has 1 to 31 letters";
        }
        strcpy(scheduler, name);
        return NULL;
    }
    if (strcmp(word, "sha") == 0) {
        char *name = strtok_r(NULL, " \t\r", &save);
        char *sha = strtok_r(NULL, " \t\r", &save);
        if (sha == NULL || !is_name(name, 32) || strlen(sha) != 40 ||
            strspn(sha, "0123456789abcdef") != 40) {
            return "write it like: sha NAME and 40 digits of 0-9a-f";
        }
        wire_script_name(sha, name);
        return NULL;
    }
    if (scheduler[0] == '\0') {
        return "a line `scheduler NAME` comes first";
    }
    if (rules->len == LEASE_RULES_MAX) {
        return "more than 64 rules";
    }
    struct lease_rule rule = {.keys = -1, .event = LEASE_EVENTS};
    strcpy(rule.scheduler, scheduler);
    const char *why = parse_rule(&rule, word, &save);
    if (why == NULL) {
        rules->rule[rules->len++] = rule;
    }
    return why;
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
        const char *why = parse_line(rules, scheduler, line);
        if (why != NULL) {
            return err_set(err, -EINVAL, "%s: line %d: not a rule: %s", source, number, why);
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
    int code;
    if (n == RULES_BYTES_MAX) {
        code = err_set(err, -EFBIG, "%s: above 64 KiB", path);
    } else if (n > 0 && memchr(text, '\0', n) != NULL) {
        code = err_set(err, -EINVAL, "%s: not a text file", path);
    } else {
        code = text != NULL ? lease_rules_parse(rules, path, text, err) : -ENOMEM;
    }
    free(text);
    return code;
}

int lease_rules_builtin(struct lease_rules *rules, struct err *err)
{
    wire_name_codeqd();
    return lease_rules_parse(rules, "built-in rules", codeqd_rules, err);
}
