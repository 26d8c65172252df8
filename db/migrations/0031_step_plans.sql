-- A step of a walk is planned once a session and not five times before: to plan it for each of hundreds of ids took longer than the step.
alter function lineage.step(uuid[], boolean, text[], bigint, real, text[], text[], uuid, uuid) set plan_cache_mode = force_generic_plan;
