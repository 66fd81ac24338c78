/* The commands of the command line beside run: each returns the process's exit status. */
#ifndef OPALD_SERVER_COMMAND_COMMAND_H
#define OPALD_SERVER_COMMAND_COMMAND_H

#include <stdbool.h>
#include <stddef.h>

#include "shm/common/config.h"
#include "shm/common/object.h"
#include "server/options/options.h"

/* Tells on standard output all that is wrong, one line each, and what was given and does nothing. 0 or 2. */
int command_check_config(int argc, char **argv);
/*
 * A check that the options cannot make (they know nothing of backbones): true when the configured broadcast
 * URI can work. Otherwise `line` gets the sentence to show: option, value without its credentials, what
 * would be right.
 */
MUST_CHECK bool command_check_backbone(const struct config *config, char *line, size_t size);
/* The other one: true when OPAL_DATA_CONFIG_SOURCES is unset or can be served; otherwise `line` says what
 * is wrong and where. */
MUST_CHECK bool command_check_sources(const struct config *config, char *line, size_t size);
/* And the keys: true when they can be read and belong together, or when there are none. */
MUST_CHECK bool command_check_auth(const struct config *config, char *line, size_t size);
/* And OPAL_POLICY_REPO_WEBHOOK_PARAMS. */
MUST_CHECK bool command_check_webhook(const struct config *config, char *line, size_t size);
int command_print_config(const struct options *options);
/* `options [--markdown]` */
int command_options(const struct options_command *command);
/*
 * `publish-data-update`: flags, output and request of the reference's command. 0 when the server answered
 * 200, 1 when not (the reference ends with 0 there too), 2 for wrong arguments.
 */
int command_publish_data_update(const struct options_command *command);

/* `obtain-token`: POST /token with the master token. 0 with the token on standard output, 1 without one, 2
 * for wrong arguments. */
int command_obtain_token(const struct options_command *command);
/* `generate-secret` */
int command_generate_secret(const struct options_command *command);

#endif
