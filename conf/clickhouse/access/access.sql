-- Users for a server that keeps them itself; users.xml says the same in a file. Passwords are to be replaced.

-- Writes the rows and reads them for the query API. It cannot change tables: `sluice migrate` does that with a user who may.
CREATE USER IF NOT EXISTS sluice_gateway IDENTIFIED WITH sha256_password BY 'change me';
GRANT SELECT, INSERT ON sluice.* TO sluice_gateway;

-- Reads everything, for the dashboards.
CREATE SETTINGS PROFILE IF NOT EXISTS sluice_reader SETTINGS readonly = 2, max_execution_time = 30, max_memory_usage = 4000000000;
CREATE USER IF NOT EXISTS sluice_grafana IDENTIFIED WITH sha256_password BY 'change me' SETTINGS PROFILE 'sluice_reader';
GRANT SELECT ON sluice.* TO sluice_grafana;

-- Users who see one workspace: the role has the tables that name a workspace, and nothing else. usage_minute, usage_hour and usage_day_digest are over all workspaces.
CREATE SETTINGS PROFILE IF NOT EXISTS sluice_workspace SETTINGS readonly = 1, max_execution_time = 30, max_memory_usage = 1000000000, max_result_rows = 1000000;
CREATE ROLE IF NOT EXISTS sluice_workspace SETTINGS PROFILE 'sluice_workspace';
GRANT SELECT ON sluice.usage TO sluice_workspace;
GRANT SELECT ON sluice.usage_workspace_hour TO sluice_workspace;
GRANT SELECT ON sluice.usage_workspace_day_digest TO sluice_workspace;
GRANT SELECT ON sluice.usage_day TO sluice_workspace;
GRANT SELECT ON sluice.usage_workspace_day TO sluice_workspace;
GRANT SELECT ON sluice.usage_key_day TO sluice_workspace;

-- Once there is a policy on a table, whom no policy names sees nothing of it: this one keeps all rows for all the others.
CREATE ROW POLICY IF NOT EXISTS sluice_all ON sluice.usage, sluice.usage_workspace_hour, sluice.usage_workspace_day_digest, sluice.usage_day,
    sluice.usage_workspace_day, sluice.usage_key_day, sluice.payloads
USING 1 TO ALL EXCEPT sluice_workspace;

-- For each workspace a user and a policy. The filter stands in the policy, not in a setting: a setting is what a user may change.
CREATE USER IF NOT EXISTS acme IDENTIFIED WITH sha256_password BY 'change me';
GRANT sluice_workspace TO acme;
CREATE ROW POLICY IF NOT EXISTS acme ON sluice.usage, sluice.usage_workspace_hour, sluice.usage_workspace_day_digest, sluice.usage_day,
    sluice.usage_workspace_day, sluice.usage_key_day, sluice.payloads
USING workspace_id = '00000000-0000-7000-8000-000000000001' TO acme;
