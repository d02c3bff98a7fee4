#include "usdt.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FILE_BYTES_MAX (INT64_C(1) << 31)
#define NOTE_TYPE 3

struct image {
    const uint8_t *data;
    size_t bytes;
    const Elf64_Ehdr *head;
    const Elf64_Shdr *sections;
    size_t sections_len;
};

static bool inside(const struct image *image, uint64_t at, uint64_t bytes)
{
    return at <= image->bytes && bytes <= image->bytes - at;
}

static int image_open(struct image *image, const char *path, struct err *err)
{
    *image = (struct image){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = -errno;
        if (fd >= 0) {
            close(fd);
        }
        return err_set(err, code, "%s: %s", path, strerror(-code));
    }
    void *data = MAP_FAILED;
    if (S_ISREG(st.st_mode) && st.st_size >= (off_t)sizeof(Elf64_Ehdr) &&
        st.st_size < FILE_BYTES_MAX) {
        data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
    if (data == MAP_FAILED) {
        return err_set(err, -EBADMSG, "%s: not a program", path);
    }
    image->data = data;
    image->bytes = (size_t)st.st_size;
    image->head = data;
    const Elf64_Ehdr *head = image->head;
    if (memcmp(head->e_ident, ELFMAG, SELFMAG) != 0 || head->e_ident[EI_CLASS] != ELFCLASS64 ||
        head->e_ident[EI_DATA] != ELFDATA2LSB || head->e_shentsize != sizeof(Elf64_Shdr) ||
        head->e_shoff % 8 != 0 ||
        !inside(image, head->e_shoff, (uint64_t)head->e_shnum * sizeof(Elf64_Shdr))) {
        munmap(data, image->bytes);
        return err_set(err, -EBADMSG, "%s: not an ELF file of 64 bits, or a broken one", path);
    }
    image->sections = (const Elf64_Shdr *)(const void *)(image->data + head->e_shoff);
    image->sections_len = head->e_shnum;
    return 0;
}

static void image_close(struct image *image)
{
    munmap((void *)(uintptr_t)image->data, image->bytes);
}

static bool section_named(const struct image *image, const Elf64_Shdr *section, const char *name)
{
    if (image->head->e_shstrndx >= image->sections_len) {
        return false;
    }
    const Elf64_Shdr *names = &image->sections[image->head->e_shstrndx];
    size_t n = strlen(name) + 1;
    return inside(image, names->sh_offset, names->sh_size) && section->sh_name < names->sh_size &&
           n <= names->sh_size - section->sh_name &&
           memcmp(image->data + names->sh_offset + section->sh_name, name, n) == 0;
}

/* The bytes at an address, through the section that holds it. */
static bool code_at(const struct image *image, uint64_t address, uint8_t code[USDT_CODE_BYTES],
                    uint64_t *out_offset)
{
    for (size_t i = 0; i < image->sections_len; i++) {
        const Elf64_Shdr *s = &image->sections[i];
        if (s->sh_type != SHT_PROGBITS || (s->sh_flags & SHF_EXECINSTR) == 0 ||
            address < s->sh_addr || address - s->sh_addr >= s->sh_size ||
            !inside(image, s->sh_offset, s->sh_size)) {
            continue;
        }
        uint64_t left = s->sh_size - (address - s->sh_addr);
        *out_offset = s->sh_offset + (address - s->sh_addr);
        memset(code, 0, USDT_CODE_BYTES);
        memcpy(code, image->data + *out_offset, left < USDT_CODE_BYTES ? left : USDT_CODE_BYTES);
        return true;
    }
    return false;
}

/* A text that ends before `end`; NULL when it does not, or does not fit. */
static const char *text_at(const char *p, const char *end, char *out, size_t bytes)
{
    size_t n = p < end ? strnlen(p, (size_t)(end - p)) : 0;
    if (p + n >= end || n >= bytes) {
        return NULL;
    }
    memcpy(out, p, n + 1);
    for (char *c = out; *c != '\0'; c++) {
        *c = *c >= 0x20 && *c < 0x7f ? *c : '?';
    }
    return p + n + 1;
}

static bool read_point(const struct image *image, const uint8_t *note, size_t bytes,
                       uint64_t base_address, struct usdt_point *point)
{
    uint64_t words[3]; /* address, base when linked, semaphore */
    if (bytes < sizeof words) {
        return false;
    }
    memcpy(words, note, sizeof words);
    /* A prelinked file has moved by this much. */
    point->address = words[0] + (base_address != 0 ? base_address - words[1] : 0);
    const char *p = (const char *)note + sizeof words;
    const char *end = (const char *)note + bytes;
    p = text_at(p, end, point->provider, sizeof point->provider);
    p = p != NULL ? text_at(p, end, point->name, sizeof point->name) : NULL;
    p = p != NULL ? text_at(p, end, point->arguments, sizeof point->arguments) : NULL;
    return p != NULL && code_at(image, point->address, point->code, &point->offset);
}

static int read_notes(const struct image *image, const Elf64_Shdr *section, uint64_t base_address,
                      struct usdt_point points[USDT_POINTS_MAX], int len)
{
    uint64_t at = 0;
    while (len < USDT_POINTS_MAX && section->sh_size - at >= sizeof(Elf64_Nhdr)) {
        const uint8_t *p = image->data + section->sh_offset + at;
        Elf64_Nhdr head;
        memcpy(&head, p, sizeof head);
        uint64_t name_bytes = ((uint64_t)head.n_namesz + 3) & ~UINT64_C(3);
        uint64_t note_bytes = ((uint64_t)head.n_descsz + 3) & ~UINT64_C(3);
        uint64_t left = section->sh_size - at - sizeof head;
        if (name_bytes > left || head.n_descsz > left - name_bytes) {
            return -EBADMSG;
        }
        const uint8_t *note = p + sizeof head + name_bytes;
        if (head.n_type == NOTE_TYPE && head.n_namesz == 8 &&
            memcmp(p + sizeof head, "stapsdt", 8) == 0) {
            if (!read_point(image, note, head.n_descsz, base_address, &points[len])) {
                return -EBADMSG;
            }
            len++;
        }
        if (note_bytes > left - name_bytes) {
            break; /* the last, not padded */
        }
        at += sizeof head + name_bytes + note_bytes;
    }
    return len;
}

int usdt_read(const char *path, struct usdt_point points[USDT_POINTS_MAX], uint16_t *out_machine,
              struct err *err)
{
    struct image image;
    int code = image_open(&image, path, err);
    if (code != 0) {
        return code;
    }
    uint64_t base_address = 0;
    for (size_t i = 0; i < image.sections_len; i++) {
        if (section_named(&image, &image.sections[i], ".stapsdt.base")) {
            base_address = image.sections[i].sh_addr;
        }
    }
    int len = 0;
    for (size_t i = 0; i < image.sections_len && len >= 0; i++) {
        const Elf64_Shdr *section = &image.sections[i];
        if (section->sh_type == SHT_NOTE && section_named(&image, section, ".note.stapsdt") &&
            inside(&image, section->sh_offset, section->sh_size)) {
            len = read_notes(&image, section, base_address, points, len);
        }
    }
    if (len >= 0 && out_machine != NULL) {
        *out_machine = image.head->e_machine;
    }
    image_close(&image);
    return len >= 0 ? len : err_set(err, len, "%s: its notes of probe points are broken", path);
}

int usdt_symbol_code(const char *path, const char *symbol, uint8_t code[USDT_CODE_BYTES],
                     uint16_t *out_machine, struct err *err)
{
    struct image image;
    int rc = image_open(&image, path, err);
    if (rc != 0) {
        return rc;
    }
    bool found = false;
    size_t n = strlen(symbol) + 1;
    for (size_t i = 0; i < image.sections_len && !found; i++) {
        const Elf64_Shdr *table = &image.sections[i];
        if ((table->sh_type != SHT_SYMTAB && table->sh_type != SHT_DYNSYM) ||
            table->sh_link >= image.sections_len ||
            !inside(&image, table->sh_offset, table->sh_size)) {
            continue;
        }
        const Elf64_Shdr *names = &image.sections[table->sh_link];
        if (!inside(&image, names->sh_offset, names->sh_size)) {
            continue;
        }
        for (uint64_t s = 0; s < table->sh_size / sizeof(Elf64_Sym) && !found; s++) {
            Elf64_Sym entry;
            memcpy(&entry, image.data + table->sh_offset + s * sizeof entry, sizeof entry);
            uint64_t offset;
            found = ELF64_ST_TYPE(entry.st_info) == STT_FUNC && entry.st_shndx != SHN_UNDEF &&
                    entry.st_name < names->sh_size && n <= names->sh_size - entry.st_name &&
                    memcmp(image.data + names->sh_offset + entry.st_name, symbol, n) == 0 &&
                    code_at(&image, entry.st_value, code, &offset);
        }
    }
    if (out_machine != NULL) {
        *out_machine = image.head->e_machine;
    }
    image_close(&image);
    return found ? 0 : err_set(err, -ENOENT, "%s: no function '%s' in it", path, symbol);
}

static enum usdt_cost cost_x86(const uint8_t *code, unsigned kernel)
{
    static const uint8_t nop5[] = {0x0f, 0x1f, 0x44, 0x00};
    if (memcmp(code, nop5, sizeof nop5) == 0) {
        return kernel >= (6u << 8 | 18) ? USDT_COST_CALL : USDT_COST_STEP;
    }
    size_t i = 0;
    while (i < 3 && (code[i] == 0x66 || code[i] == 0x2e || code[i] == 0x3e)) {
        i++; /* prefixes of a nop or a jump */
    }
    uint8_t op = code[i];
    bool nop = op == 0x90;
    bool jump = op == 0xeb || op == 0xe9 || op == 0xe8 || (op >= 0x70 && op <= 0x7f) ||
                (op == 0x0f && code[i + 1] >= 0x80 && code[i + 1] <= 0x8f);
    bool push = (code[0] >= 0x50 && code[0] <= 0x57) ||
                (code[0] == 0x41 && code[1] >= 0x50 && code[1] <= 0x57);
    return nop || jump || push ? USDT_COST_TRAP : USDT_COST_STEP;
}

static enum usdt_cost cost_arm64(const uint8_t *code)
{
    uint32_t op;
    memcpy(&op, code, sizeof op);
    bool hint = (op & 0xfffff01f) == 0xd503201f; /* nop, bti, paciasp and the like */
    bool branch = (op & 0x7c000000) == 0x14000000 || (op & 0xff000010) == 0x54000000 ||
                  (op & 0x7e000000) == 0x34000000 || (op & 0x7e000000) == 0x36000000;
    bool address = (op & 0x1f000000) == 0x10000000; /* adr, adrp */
    return hint || branch || address ? USDT_COST_TRAP : USDT_COST_STEP;
}

enum usdt_cost usdt_cost(uint16_t machine, const uint8_t code[USDT_CODE_BYTES], unsigned kernel)
{
    switch (machine) {
    case EM_X86_64:
        return cost_x86(code, kernel);
    case EM_AARCH64:
        return cost_arm64(code);
    default:
        return USDT_COST_STEP; /* not known to be cheap */
    }
}

unsigned usdt_kernel(void)
{
    struct utsname name;
    unsigned major = 0;
    unsigned minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%3u.%3u", &major, &minor) != 2) {
        return 0;
    }
    return major << 8 | (minor & 0xff);
}

bool usdt_warning(const char *what, uint16_t machine, const uint8_t code[USDT_CODE_BYTES],
                  unsigned kernel, char *out, size_t bytes)
{
    if (usdt_cost(machine, code, kernel) != USDT_COST_STEP) {
        return false;
    }
    snprintf(out, bytes,
             "%s begins with %02x %02x %02x %02x: the kernel steps through it, about 17 us a hit "
             "on a virtual machine and 1 us on bare metal",
             what, code[0], code[1], code[2], code[3]);
    return true;
}
