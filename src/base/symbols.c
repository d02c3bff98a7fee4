#include "base/symbols.h"

#include <assert.h>
#include <elf.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define REGIONS_MAX 65536
#define FILES_MAX 1024
#define SYMBOLS_MAX 1000000
#define FILE_BYTES_MAX (INT64_C(1) << 31)
#define NAME_BYTES_MAX 128

struct symbol {
    uint64_t start;
    uint64_t end;
    char *name;
};

struct file {
    char *path;
    char label[NAME_BYTES_MAX]; /* "[libc.so.6]" */
    struct symbol *symbols;
    int len;
};

struct region {
    pid_t pid;
    uint64_t start;
    uint64_t end;
    uint64_t offset; /* in the file */
    int file;
};

struct symbols {
    struct file files[FILES_MAX];
    int files_len;
    struct region *regions;
    int regions_len;
    struct file kernel;
    bool kernel_read;
};

struct symbols *symbols_new(void)
{
    struct symbols *symbols = calloc(1, sizeof *symbols);
    assert(symbols != NULL);
    symbols->regions = calloc(REGIONS_MAX, sizeof *symbols->regions);
    assert(symbols->regions != NULL);
    return symbols;
}

static void file_fini(struct file *file)
{
    for (int i = 0; i < file->len; i++) {
        free(file->symbols[i].name);
    }
    free(file->symbols);
    free(file->path);
}

void symbols_free(struct symbols *symbols)
{
    if (symbols == NULL) {
        return;
    }
    for (int i = 0; i < symbols->files_len; i++) {
        file_fini(&symbols->files[i]);
    }
    file_fini(&symbols->kernel);
    free(symbols->regions);
    free(symbols);
}

static void add_symbol(struct file *file, uint64_t start, uint64_t size, const char *name)
{
    if (file->len == SYMBOLS_MAX) {
        return;
    }
    if ((file->len & (file->len - 1)) == 0) {
        size_t capacity = file->len == 0 ? 1 : (size_t)file->len * 2;
        file->symbols = realloc(file->symbols, capacity * sizeof *file->symbols);
        assert(file->symbols != NULL);
    }
    struct symbol *symbol = &file->symbols[file->len++];
    symbol->start = start;
    symbol->end = size > 0 ? start + size : UINT64_MAX;
    symbol->name = strndup(name, NAME_BYTES_MAX - 1);
    assert(symbol->name != NULL);
}

static int by_start(const void *a, const void *b)
{
    const struct symbol *x = a;
    const struct symbol *y = b;
    return x->start < y->start ? -1 : x->start > y->start;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t total)
{
    return offset <= total && bytes <= total - offset;
}

/* Symbols by their place in the file, so that no load address is needed. */
static void read_elf(struct file *file, const unsigned char *data, uint64_t bytes)
{
    Elf64_Ehdr header;
    if (bytes < sizeof header || memcmp(data, ELFMAG, SELFMAG) != 0 ||
        data[EI_CLASS] != ELFCLASS64) {
        return;
    }
    memcpy(&header, data, sizeof header);
    if (header.e_shentsize != sizeof(Elf64_Shdr) || header.e_phentsize != sizeof(Elf64_Phdr) ||
        !inside(header.e_shoff, (uint64_t)header.e_shnum * sizeof(Elf64_Shdr), bytes) ||
        !inside(header.e_phoff, (uint64_t)header.e_phnum * sizeof(Elf64_Phdr), bytes)) {
        return;
    }
    for (int s = 0; s < header.e_shnum; s++) {
        Elf64_Shdr section;
        memcpy(&section, data + header.e_shoff + (uint64_t)s * sizeof section, sizeof section);
        if ((section.sh_type != SHT_SYMTAB && section.sh_type != SHT_DYNSYM) ||
            !inside(section.sh_offset, section.sh_size, bytes) ||
            section.sh_link >= header.e_shnum) {
            continue;
        }
        Elf64_Shdr strings;
        memcpy(&strings, data + header.e_shoff + section.sh_link * sizeof strings, sizeof strings);
        if (!inside(strings.sh_offset, strings.sh_size, bytes) || strings.sh_size == 0 ||
            data[strings.sh_offset + strings.sh_size - 1] != '\0') {
            continue;
        }
        for (uint64_t i = 0; i < section.sh_size / sizeof(Elf64_Sym); i++) {
            Elf64_Sym symbol;
            memcpy(&symbol, data + section.sh_offset + i * sizeof symbol, sizeof symbol);
            if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0 ||
                symbol.st_size == 0 || symbol.st_name >= strings.sh_size) {
                continue;
            }
            for (int p = 0; p < header.e_phnum; p++) {
                Elf64_Phdr segment;
                memcpy(&segment, data + header.e_phoff + (uint64_t)p * sizeof segment,
                       sizeof segment);
                if (segment.p_type == PT_LOAD && symbol.st_value >= segment.p_vaddr &&
                    symbol.st_value - segment.p_vaddr < segment.p_filesz) {
                    add_symbol(file, symbol.st_value - segment.p_vaddr + segment.p_offset,
                               symbol.st_size,
                               (const char *)data + strings.sh_offset + symbol.st_name);
                    break;
                }
            }
        }
    }
    if (file->len > 0) {
        qsort(file->symbols, (size_t)file->len, sizeof *file->symbols, by_start);
    }
}

/* Through /proc/PID/root, so that a container's own file is read. */
static int file_of(struct symbols *symbols, pid_t pid, const char *path)
{
    for (int i = 0; i < symbols->files_len; i++) {
        if (strcmp(symbols->files[i].path, path) == 0) {
            return i;
        }
    }
    if (symbols->files_len == FILES_MAX) {
        return -1;
    }
    struct file *file = &symbols->files[symbols->files_len];
    file->path = strdup(path);
    assert(file->path != NULL);
    const char *base = strrchr(path, '/');
    snprintf(file->label, sizeof file->label, "[%.100s]", base != NULL ? base + 1 : path);
    char full[4200];
    snprintf(full, sizeof full, "/proc/%d/root%s", (int)pid, path);
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 &&
        st.st_size < FILE_BYTES_MAX) {
        void *data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED) {
            read_elf(file, data, (uint64_t)st.st_size);
            munmap(data, (size_t)st.st_size);
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    return symbols->files_len++;
}

void symbols_refresh(struct symbols *symbols, pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    FILE *maps = fopen(path, "re");
    if (maps == NULL) {
        return; /* gone: what was read before stays */
    }
    int kept = 0;
    for (int i = 0; i < symbols->regions_len; i++) {
        if (symbols->regions[i].pid != pid) {
            symbols->regions[kept++] = symbols->regions[i];
        }
    }
    symbols->regions_len = kept;
    char line[4400];
    while (fgets(line, sizeof line, maps) != NULL && symbols->regions_len < REGIONS_MAX) {
        unsigned long start;
        unsigned long end;
        unsigned long offset;
        char mode[8];
        int at = 0;
        if (sscanf(line, "%lx-%lx %7s %lx %*s %*s %n", &start, &end, mode, &offset, &at) < 4 ||
            at == 0 || mode[2] != 'x') {
            continue;
        }
        line[strcspn(line, "\n")] = '\0';
        if (line[at] != '/') {
            continue;
        }
        int file = file_of(symbols, pid, line + at);
        if (file >= 0) {
            symbols->regions[symbols->regions_len++] =
                (struct region){pid, start, end, offset, file};
        }
    }
    fclose(maps);
}

static const char *find(const struct file *file, uint64_t at, const char *otherwise)
{
    int low = 0;
    int high = file->len;
    while (low < high) {
        int middle = (low + high) / 2;
        if (file->symbols[middle].start <= at) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && at < file->symbols[low - 1].end ? file->symbols[low - 1].name : otherwise;
}

const char *symbols_user(struct symbols *symbols, pid_t pid, uint64_t address)
{
    for (int i = 0; i < symbols->regions_len; i++) {
        const struct region *region = &symbols->regions[i];
        if (region->pid == pid && address >= region->start && address < region->end) {
            const struct file *file = &symbols->files[region->file];
            return find(file, address - region->start + region->offset, file->label);
        }
    }
    return SYMBOLS_UNKNOWN;
}

const char *symbols_kernel(struct symbols *symbols, uint64_t address)
{
    if (!symbols->kernel_read) {
        symbols->kernel_read = true;
        FILE *file = fopen("/proc/kallsyms", "re");
        char line[512];
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            unsigned long at;
            char type;
            char name[NAME_BYTES_MAX];
            if (sscanf(line, "%lx %c %127s", &at, &type, name) == 3 && at != 0 &&
                (type == 't' || type == 'T')) {
                add_symbol(&symbols->kernel, at, 0, name);
            }
        }
        if (file != NULL) {
            fclose(file);
        }
        if (symbols->kernel.len > 0) {
            qsort(symbols->kernel.symbols, (size_t)symbols->kernel.len,
                  sizeof *symbols->kernel.symbols, by_start);
        }
    }
    return find(&symbols->kernel, address, "[kernel]");
}
