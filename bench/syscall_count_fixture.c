/* A program to be traced: makes known system calls. syscall_count_fixture N [thread|fork|exec|
 * signal|echo|hang] */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t signals;

static void on_signal(int number)
{
    (void)number;
    signals++;
}

static void call(int n)
{
    for (int i = 0; i < n; i++) {
        syscall(SYS_getppid);
    }
}

static void *thread(void *argument)
{
    call(*(int *)argument);
    return NULL;
}

int main(int argc, char **argv)
{
    int n = argc > 1 ? atoi(argv[1]) : 0;
    const char *how = argc > 2 ? argv[2] : "";
    call(n);
    if (strcmp(how, "thread") == 0) {
        pthread_t threads[3];
        for (int i = 0; i < 3; i++) {
            if (pthread_create(&threads[i], NULL, thread, &n) != 0) {
                return 9;
            }
        }
        for (int i = 0; i < 3; i++) {
            pthread_join(threads[i], NULL);
        }
    } else if (strcmp(how, "fork") == 0) {
        pid_t pid = fork();
        if (pid == 0) {
            call(n);
            _exit(5);
        }
        int status;
        waitpid(pid, &status, 0);
        return WEXITSTATUS(status);
    } else if (strcmp(how, "exec") == 0) {
        execl(argv[0], argv[0], argv[1], (char *)NULL);
        return 9;
    } else if (strcmp(how, "signal") == 0) {
        signal(SIGUSR1, on_signal);
        raise(SIGUSR1);
        raise(SIGUSR1);
        printf("signals %d\n", (int)signals);
    } else if (strcmp(how, "echo") == 0) {
        char line[64];
        while (fgets(line, sizeof line, stdin) != NULL) {
            fputs(line, stdout);
            fflush(stdout);
        }
    } else if (strcmp(how, "hang") == 0) {
        printf("%d\n", (int)getpid());
        fflush(stdout);
        for (;;) {
            pause();
        }
    } else if (strcmp(how, "crash") == 0) {
        raise(SIGSEGV);
    }
    return 0;
}
