#include "base/process.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int64_t read_schedstat(const char *path)
{
    long long ns = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    if (fscanf(file, "%lld", &ns) != 1) {
        ns = -1;
    }
    fclose(file);
    return ns;
}

int64_t process_main_cpu_ns(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/schedstat", (int)pid);
    return read_schedstat(path);
}

int64_t process_cpu_ns(pid_t pid)
{
    char path[400];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return -1;
    }
    int64_t total_ns = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        snprintf(path, sizeof path, "/proc/%d/task/%s/schedstat", (int)pid, entry->d_name);
        int64_t ns = entry->d_name[0] != '.' ? read_schedstat(path) : -1;
        total_ns += ns > 0 ? ns : 0;
    }
    closedir(dir);
    return total_ns;
}

int64_t process_rss_kb(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
    FILE *file = fopen(path, "re");
    long long size;
    long long resident = -1;
    if (file == NULL) {
        return -1;
    }
    if (fscanf(file, "%lld %lld", &size, &resident) != 2) {
        resident = -1;
    }
    fclose(file);
    return resident < 0 ? -1 : resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int64_t process_peak_kb(pid_t pid)
{
    char path[64];
    char line[256];
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    long long peak = -1;
    while (file != NULL && peak < 0 && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "VmHWM: %lld kB", &peak) != 1) {
            peak = -1;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return peak;
}

void process_pauses(pid_t pid, int64_t out[2])
{
    out[0] = -1;
    out[1] = -1;
    char path[400];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = pid > 0 ? opendir(path) : NULL;
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        char line[256];
        long long n;
        snprintf(path, sizeof path, "/proc/%d/task/%s/status", (int)pid, entry->d_name);
        FILE *file = entry->d_name[0] != '.' ? fopen(path, "re") : NULL;
        while (file != NULL && fgets(line, sizeof line, file) != NULL) {
            if (sscanf(line, "nonvoluntary_ctxt_switches: %lld", &n) == 1) {
                out[0] = (out[0] < 0 ? 0 : out[0]) + n;
            }
        }
        if (file != NULL) {
            fclose(file);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    char text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = pid > 0 ? fopen(path, "re") : NULL;
    if (file == NULL) {
        return;
    }
    long long major;
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    const char *behind_name = strrchr(text, ')');
    if (behind_name != NULL &&
        sscanf(behind_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %lld", &major) == 1) {
        out[1] = major;
    }
}
