/* codeq-trace cost: what tracing costs on this host, measured. */
#pragma once

/* The arguments behind "cost". The program's exit code. */
int cost_main(int argc, char **argv);
