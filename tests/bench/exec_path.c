/* For tests/bench/instructions: the master starts its workers by /proc/self/exe, which under valgrind is
 * valgrind itself. Loaded before libc this names the program instead. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

__attribute__((visibility("default"))) int execve(const char *path, char *const argv[], char *const envp[])
{
    int (*real)(const char *, char *const[], char *const[]);
    *(void **)&real = dlsym(RTLD_NEXT, "execve");
    const char *program = getenv("OPALD_BENCH_PROGRAM");
    return real(program != NULL && strcmp(path, "/proc/self/exe") == 0 ? program : path, argv, envp);
}
