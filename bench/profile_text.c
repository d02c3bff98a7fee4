#include "profile_text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int profile_read_file(const char *path, size_t bytes_max, char **out_text, size_t *out_bytes,
                      struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return err_set(err, -errno, "%s: %s", path, strerror(errno));
    }
    struct stat st;
    int code = 0;
    char *text = NULL;
    size_t bytes = 0;
    if (fstat(fd, &st) != 0) {
        code = err_set(err, -errno, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        code = err_set(err, -EINVAL, "%s: not a regular file", path);
        goto out;
    }
    if ((uint64_t)st.st_size > bytes_max) {
        code = err_set(err, -EFBIG, "%s: %jd bytes: more than %zu", path, (intmax_t)st.st_size,
                       bytes_max);
        goto out;
    }
    text = malloc((size_t)st.st_size + 1);
    if (text == NULL) {
        code = err_set(err, -ENOMEM, "%s: no memory", path);
        goto out;
    }
    while (bytes < (size_t)st.st_size) {
        ssize_t got = read(fd, text + bytes, (size_t)st.st_size - bytes);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            code = err_set(err, -errno, "%s: %s", path, strerror(errno));
            goto out;
        }
        if (got == 0) {
            break;
        }
        bytes += (size_t)got;
    }
    text[bytes] = '\0';
    *out_text = text;
    *out_bytes = bytes;
    text = NULL;
out:
    free(text);
    close(fd);
    return code;
}

int profile_write_file(const char *dir, const char *name, const struct buf *text, struct err *err)
{
    struct buf path = BUF_INIT;
    struct buf aside = BUF_INIT;
    buf_printf(&path, "%s/%s", dir, name);
    buf_printf(&aside, "%s/.%s.new", dir, name);
    int code = 0;
    int fd = open(aside.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        code = err_set(err, -errno, "%s: %s", aside.data, strerror(errno));
        goto out;
    }
    size_t done = 0;
    while (done < text->bytes && code == 0) {
        ssize_t put = write(fd, text->data + done, text->bytes - done);
        if (put >= 0) {
            done += (size_t)put;
        } else if (errno != EINTR) {
            code = err_set(err, -errno, "%s: %s", aside.data, strerror(errno));
        }
    }
    if (code == 0 && fsync(fd) != 0) {
        code = err_set(err, -errno, "%s: %s", aside.data, strerror(errno));
    }
    if (close(fd) != 0 && code == 0) {
        code = err_set(err, -errno, "%s: %s", aside.data, strerror(errno));
    }
    if (code == 0 && rename(aside.data, path.data) != 0) {
        code = err_set(err, -errno, "%s: %s", path.data, strerror(errno));
    }
    if (code != 0) {
        unlink(aside.data);
    }
out:
    buf_fini(&path);
    buf_fini(&aside);
    return code;
}

bool profile_next_line(const char **cursor, const char *end, struct profile_line *line)
{
    if (*cursor >= end) {
        return false;
    }
    const char *newline = memchr(*cursor, '\n', (size_t)(end - *cursor));
    const char *stop = newline != NULL ? newline : end;
    line->text = *cursor;
    line->bytes = (size_t)(stop - *cursor);
    if (line->bytes > 0 && line->text[line->bytes - 1] == '\r') {
        line->bytes--;
    }
    line->number++;
    *cursor = newline != NULL ? newline + 1 : end;
    return true;
}

bool profile_number(const char *text, size_t bytes, int64_t *out_value)
{
    int64_t value = 0;
    if (bytes == 0) {
        return false;
    }
    for (size_t i = 0; i < bytes; i++) {
        if (text[i] < '0' || text[i] > '9' || __builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, text[i] - '0', &value)) {
            return false;
        }
    }
    *out_value = value;
    return true;
}

/* FNV-1a. Source: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint32_t hash_text(const char *text, size_t bytes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ (unsigned char)text[i]) * UINT64_C(0x100000001b3);
    }
    return (uint32_t)(hash ^ (hash >> 32));
}

static void *checked(void *memory)
{
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void strings_grow(struct profile_strings *s)
{
    free(s->slots);
    s->slot_count = s->slot_count == 0 ? 256 : s->slot_count * 2;
    s->slots = checked(calloc(s->slot_count, sizeof *s->slots));
    for (uint32_t id = 0; id < s->count; id++) {
        uint32_t at = hash_text(s->texts[id], strlen(s->texts[id])) & (s->slot_count - 1);
        while (s->slots[at] != 0) {
            at = (at + 1) & (s->slot_count - 1);
        }
        s->slots[at] = id + 1;
    }
}

uint32_t profile_strings_id(struct profile_strings *s, const char *text, size_t bytes)
{
    /* A NUL inside would make two texts one; it ends the text for every reader of it. */
    bytes = strnlen(text, bytes);
    if (s->count * 2 >= s->slot_count) {
        strings_grow(s);
    }
    uint32_t at = hash_text(text, bytes) & (s->slot_count - 1);
    while (s->slots[at] != 0) {
        const char *have = s->texts[s->slots[at] - 1];
        if (strncmp(have, text, bytes) == 0 && have[bytes] == '\0') {
            return s->slots[at] - 1;
        }
        at = (at + 1) & (s->slot_count - 1);
    }
    if (s->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 128 : s->capacity * 2;
        s->texts = checked(realloc(s->texts, s->capacity * sizeof *s->texts));
    }
    s->texts[s->count] = checked(strndup(text, bytes));
    s->slots[at] = ++s->count;
    return s->count - 1;
}

void profile_strings_fini(struct profile_strings *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        free(s->texts[i]);
    }
    free(s->texts);
    free(s->slots);
    *s = (struct profile_strings){0};
}

static const char *const clone_suffixes[] = {"constprop", "isra", "part", "cold", "lto_priv"};

/* Length of ".constprop.0" at the end of name, 0 when there is none. */
static size_t clone_suffix_bytes(const char *name, size_t bytes)
{
    size_t end = bytes;
    while (end > 0 && name[end - 1] >= '0' && name[end - 1] <= '9') {
        end--;
    }
    if (end < bytes && end > 0 && name[end - 1] == '.') {
        end--; /* before ".0" */
    } else {
        end = bytes;
    }
    for (size_t i = 0; i < sizeof clone_suffixes / sizeof *clone_suffixes; i++) {
        size_t word = strlen(clone_suffixes[i]);
        if (end > word + 1 && memcmp(name + end - word, clone_suffixes[i], word) == 0 &&
            name[end - word - 1] == '.') {
            return bytes - (end - word - 1);
        }
    }
    return 0;
}

void profile_name_plain(struct buf *out, const char *name, size_t bytes)
{
    const char *version = memchr(name, '@', bytes);
    if (version != NULL && version != name) {
        bytes = (size_t)(version - name);
    }
    size_t suffix;
    while ((suffix = clone_suffix_bytes(name, bytes)) > 0) {
        bytes -= suffix;
    }
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)name[i];
        char safe = c < 0x20 || c == 0x7f ? ' ' : c == ';' ? ',' : (char)c;
        buf_append(out, &safe, 1);
    }
    if (bytes == 0) {
        buf_puts(out, "???");
    }
}

bool profile_name_is_address(const char *name, size_t bytes)
{
    if (bytes < 3 || name[0] != '0' || name[1] != 'x') {
        return false;
    }
    for (size_t i = 2; i < bytes; i++) {
        bool hex = (name[i] >= '0' && name[i] <= '9') || (name[i] >= 'a' && name[i] <= 'f') ||
                   (name[i] >= 'A' && name[i] <= 'F');
        if (!hex) {
            return false;
        }
    }
    return true;
}

const char *profile_base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}

void profile_stripped_name(struct buf *out, const char *object)
{
    const char *base = profile_base_name(object);
    const char *so = strstr(base, ".so");
    size_t bytes = so != NULL && so != base && (so[3] == '\0' || so[3] == '.') ? (size_t)(so - base)
                                                                               : strlen(base);
    buf_append(out, base, bytes);
    buf_puts(out, ":[stripped]");
}

void profile_path_plain(struct buf *out, const char *path, size_t bytes,
                        const char *const *local_paths)
{
    for (size_t i = 0; local_paths != NULL && local_paths[i] != NULL; i++) {
        size_t cut = strlen(local_paths[i]);
        while (cut > 0 && local_paths[i][cut - 1] == '/') {
            cut--;
        }
        if (cut > 0 && bytes > cut && memcmp(path, local_paths[i], cut) == 0 && path[cut] == '/') {
            path += cut + 1;
            bytes -= cut + 1;
            break;
        }
    }
    bool absolute = bytes > 0 && path[0] == '/';
    size_t start = out->bytes;
    for (size_t at = 0; at < bytes;) {
        const char *slash = memchr(path + at, '/', bytes - at);
        size_t stop = slash != NULL ? (size_t)(slash - path) : bytes;
        const char *part = path + at;
        size_t part_bytes = stop - at;
        at = stop + 1;
        if (part_bytes == 0 || (part_bytes == 1 && part[0] == '.')) {
            continue;
        }
        if (part_bytes == 2 && part[0] == '.' && part[1] == '.') {
            size_t end = out->bytes;
            while (end > start && out->data[end - 1] != '/') {
                end--;
            }
            /* A leading ".." has nothing to take back: it only says "beside the build". */
            if (out->bytes > start) {
                out->bytes = end > start ? end - 1 : start;
                out->data[out->bytes] = '\0';
            }
            continue;
        }
        if (out->bytes > start) {
            buf_puts(out, "/");
        }
        for (size_t i = 0; i < part_bytes; i++) {
            unsigned char c = (unsigned char)part[i];
            char safe = c < 0x20 || c == 0x7f ? ' ' : (char)c;
            buf_append(out, &safe, 1);
        }
    }
    if (out->bytes == start) {
        buf_puts(out, "???");
        return;
    }
    if (absolute && strncmp(out->data + start, "usr/", 4) != 0) {
        const char *base = strrchr(out->data + start, '/');
        if (base != NULL) {
            size_t keep = strlen(base + 1);
            memmove(out->data + start, base + 1, keep + 1);
            out->bytes = start + keep;
        }
    } else if (absolute) {
        buf_puts(out, " ");
        memmove(out->data + start + 1, out->data + start, out->bytes - start - 1);
        out->data[start] = '/';
    }
}
