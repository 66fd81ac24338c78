/* A URL as print-config and error messages may show it. Pure. */
#ifndef OPALD_SHM_COMMON_URL_DISPLAY_H
#define OPALD_SHM_COMMON_URL_DISPLAY_H

#include "shm/common/text.h"

// Appends `url` without what is or may be secret:
//     scheme://user:password@host:port/path?token=x   as scheme://***@host:port/path?token=***
// The names of well-known options stay, their values and all other names don't. As soon as a part does not
// look like what it should be, for example because a password with a slash in it was cut, *** stands for it
// and for all that follows. A text without a scheme is shown if it is a path or the scp form of git
// (user@host:path).
void url_append_display(struct text *out, const char *url);

#endif
