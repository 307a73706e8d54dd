-- The columns of LiteLLM's tables that an import reads, and some that it must not read, with types as
-- in the schema of litellm-proxy-extras 0.4.110. The import was also run by hand against that schema,
-- made by all its migrations.
CREATE TABLE "LiteLLM_BudgetTable" (
    budget_id text PRIMARY KEY, max_budget double precision, soft_budget double precision,
    max_parallel_requests integer,
    tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, budget_duration text);
CREATE TABLE "LiteLLM_OrganizationTable" (
    organization_id text PRIMARY KEY, organization_alias text NOT NULL, budget_id text NOT NULL,
    models text[], spend double precision NOT NULL DEFAULT 0);
CREATE TABLE "LiteLLM_TeamTable" (
    team_id text PRIMARY KEY, team_alias text, organization_id text, models text[],
    max_budget double precision, spend double precision NOT NULL DEFAULT 0, budget_duration text,
    max_parallel_requests integer, tpm_limit bigint, rpm_limit bigint, tpd_limit bigint,
    blocked boolean NOT NULL DEFAULT false, metadata jsonb NOT NULL DEFAULT '{}');
CREATE TABLE "LiteLLM_UserTable" (
    user_id text PRIMARY KEY, user_email text, password text, organization_id text, models text[],
    max_budget double precision, spend double precision NOT NULL DEFAULT 0, budget_duration text,
    max_parallel_requests integer, tpm_limit bigint, rpm_limit bigint);
CREATE TABLE "LiteLLM_ProjectTable" (
    project_id text PRIMARY KEY, team_id text, budget_id text, models text[],
    blocked boolean NOT NULL DEFAULT false);
CREATE TABLE "LiteLLM_TeamMembership" (
    user_id text NOT NULL, team_id text NOT NULL, budget_id text,
    spend double precision NOT NULL DEFAULT 0, PRIMARY KEY (user_id, team_id));
CREATE TABLE "LiteLLM_ProxyModelTable" (
    model_id text PRIMARY KEY, model_name text NOT NULL, litellm_params jsonb NOT NULL);
CREATE TABLE "LiteLLM_CredentialsTable" (
    credential_name text PRIMARY KEY, credential_values jsonb NOT NULL);
CREATE TABLE "LiteLLM_VerificationToken" (
    token text PRIMARY KEY, key_name text, key_alias text, spend double precision NOT NULL DEFAULT 0,
    expires timestamp(3), models text[], aliases jsonb NOT NULL DEFAULT '{}',
    permissions jsonb NOT NULL DEFAULT '{}', router_settings jsonb DEFAULT '{}',
    user_id text, team_id text, project_id text, organization_id text, agent_id text,
    max_parallel_requests integer, metadata jsonb NOT NULL DEFAULT '{}', blocked boolean,
    tpm_limit bigint, rpm_limit bigint, tpd_limit bigint, max_budget double precision,
    budget_duration text, allowed_cache_controls text[] DEFAULT '{}', allowed_routes text[] DEFAULT '{}',
    key_type text, policies text[] DEFAULT '{}', access_group_ids text[] DEFAULT '{}',
    model_max_budget jsonb NOT NULL DEFAULT '{}', budget_limits jsonb, budget_id text,
    object_permission_id text);
