/* GET /openapi.json. */
#include "service/openapi.h"
#include "service/service.h"

static void describe(struct service *service, struct request *request)
{
    (void)service;
    request_answer(request, 200, openapi_text, openapi_bytes);
}

const struct route openapi_routes[] = {
    {HTTP_METHOD_GET, "/openapi.json", describe, AUTH_PUBLIC, 0, RATE_NONE, "openapi"},
    {0},
};
