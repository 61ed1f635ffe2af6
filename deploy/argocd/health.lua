-- How a Process is, for Argo CD. It reads what kstatus reads (Stalled, Reconciling, Ready, observedGeneration),
-- and tells a rollout that waits for a person from one that goes on.
local function condition(kind)
  for _, found in ipairs((obj.status or {}).conditions or {}) do
    if found.type == kind then
      return found
    end
  end
  return { status = "Unknown", reason = "", message = "" }
end

local function is(kind)
  return condition(kind).status == "True"
end

local function health(status, kind, otherwise)
  local message = condition(kind).message
  if message == nil or message == "" then
    message = otherwise
  end
  return { status = status, message = message }
end

if obj.metadata.deletionTimestamp ~= nil then
  return health("Progressing", "Ready", "is being deleted")
end
local status = obj.status or {}
if status.observedGeneration ~= obj.metadata.generation then
  return { status = "Progressing", message = "the operator has not seen this generation yet" }
end
if is("Stalled") then
  return health("Degraded", "Stalled", "needs somebody to act")
end
if (obj.spec or {}).suspend == true then
  return health("Suspended", "Progressing", "spec.suspend is true")
end
local reason = condition("Progressing").reason
if is("Reconciling") and (reason == "WaitingForPromotion" or reason == "Paused") then
  return health("Suspended", "Progressing", "the rollout waits for somebody")
end
if is("Reconciling") then
  return health("Progressing", "Reconciling", "a change is under way")
end
if is("Degraded") then
  return health("Degraded", "Degraded", "works less well than it should")
end
if is("Ready") then
  return health("Healthy", "Ready", "serves")
end
return health("Progressing", "Ready", "does not serve yet")
