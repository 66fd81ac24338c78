#include "server/policy/bundle/child_environment.h"

#include <stddef.h>
#include <string.h>

bool child_environment_keeps(const char *variable)
{
    static const char *const dropped[] = {"OPAL_", "UVICORN_", "GIT_DIR=", "GIT_WORK_TREE=",
        "GIT_INDEX_FILE=", "GIT_OBJECT_DIRECTORY=", "GIT_ALTERNATE_OBJECT_DIRECTORIES=", "GIT_COMMON_DIR=",
        "GIT_NAMESPACE=", "GIT_ASKPASS=", "SSH_ASKPASS=", "GIT_TERMINAL_PROMPT=", "GIT_TRACE",
        "GIT_CURL_VERBOSE=", "LC_ALL=", "LANGUAGE=", "NOTIFY_SOCKET=", "OPALD_"};
    for (size_t i = 0; i < sizeof dropped / sizeof *dropped; i++)
        if (strncmp(variable, dropped[i], strlen(dropped[i])) == 0)
            return false;
    return true;
}
