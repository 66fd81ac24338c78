//go:build tools

// Package tools pins the OPA that the real opal-client writes to in the tests: the newest one that Debian 12's Go 1.19 builds.
package tools

import _ "github.com/open-policy-agent/opa"
