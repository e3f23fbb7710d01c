/* SPDX-License-Identifier: Apache-2.0 */
/* Names that the operator shares with the chart, the injector and the proxies
 * (docs/architecture.md). */
#pragma once

#define NAME_NAMESPACE "tulle-system"
#define NAME_OPERATOR "tulle-operator"
#define NAME_CA_SECRET "tulle-ca"
#define NAME_CA_ROTATION "tulle-ca-rotation"
#define NAME_WEBHOOK_SECRET "tulle-injector-certs"
#define NAME_INJECTOR "tulle-injector"
#define NAME_INJECTOR_KEY "settings"
#define NAME_ROOT_MAP "istio-ca-root-cert"
#define NAME_ROOT_KEY "root-cert.pem"
#define NAME_MUTATING "tulle-sidecar-injector"
#define NAME_VALIDATING "tulle-validator"
#define NAME_MESH "default"
#define NAME_REVISION "tulle"
#define NAME_MANAGER "tulle-operator"
#define NAME_MANAGER_STATUS "tulle-operator-status"
#define NAME_AUDIENCE "istio-ca"
#define PORT_DISCOVERY 15012
#define PORT_MONITORING 15014
