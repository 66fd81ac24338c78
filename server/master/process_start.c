#include "server/master/process_start.h"

#include <stdlib.h>

#include "shm/common/child.h"
#include "shm/common/memory.h"

pid_t process_start(char **argv, int argc, const struct process_start *start, struct error *err)
{
    size_t descriptor_count = 0;

    /* "run" may stand anywhere among the options and may be an option's value too, so it is left where it is:
     * the hidden flag in front decides. */
    const char **child_argv = memory_allocate(sizeof *child_argv * ((size_t)argc + 2));
    child_argv[0] = argv[0];
    child_argv[1] = start->flag;
    for (int i = 1; i < argc; i++)
        child_argv[i + 1] = argv[i];
    const char *const own[] = {start->assignment, NULL};
    const char **environment = child_make_environment(own, NULL, NULL);
    struct child_descriptor *descriptors = memory_allocate(sizeof *descriptors * start->descriptor_count);
    for (size_t i = 0; i < start->descriptor_count; i++)
        if (start->descriptors[i] >= 0)
            descriptors[descriptor_count++] =
                (struct child_descriptor){.from = start->descriptors[i], .to = start->descriptors[i]};

    const struct child_settings settings = {.program = CHILD_THIS_PROGRAM,
        .argv = child_argv,
        .environment = environment,
        .descriptors = descriptors,
        .descriptor_count = descriptor_count};
    pid_t pid = child_start(&settings, err);
    free(child_argv);
    free(environment);
    free(descriptors);
    return pid;
}
