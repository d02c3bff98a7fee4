/* Tests only: a Redis that fails at the n-th command. A proxy in a thread of its own between a
 * store and a real Redis, one connection at a time, one command at a time; the store cannot tell it
 * from a broken network. Commands are counted over all connections since conn_fault_arm. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum conn_fault_kind {
    CONN_FAULT_BEFORE, /* close without passing the command on */
    CONN_FAULT_AFTER, /* pass it on, wait for Redis's reply, close without passing that back */
    CONN_FAULT_PARTIAL, /* as AFTER, but half of the reply gets through */
    CONN_FAULT_SILENT, /* pass it on and never answer, until the client closes */
};

struct conn_fault {
    char path[128]; /* where the proxy listens */
    char upstream[128]; /* Redis's socket */
    int listener;
    pthread_t thread;
    atomic_bool stop;
    atomic_int countdown; /* commands until the fault; <= 0: none */
    atomic_int kind;
    atomic_bool fired;
};

void conn_fault_start(struct conn_fault *fault, const char *redis_path);
void conn_fault_stop(struct conn_fault *fault);

/* Fail the n-th command from now (1: the next). fired tells whether it came to that. */
void conn_fault_arm(struct conn_fault *fault, int n, enum conn_fault_kind kind);
