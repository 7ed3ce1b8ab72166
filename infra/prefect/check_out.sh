# Check out QACONV_COMMIT in a worker's clone, or by default the commit that is checked out in its origin. dvc.lock stays as
# the last run left it: it describes the clone's files, and DVC checks it.
set -eu
git_folder=$(git rev-parse --absolute-git-dir)
kept=$git_folder/dvc.lock.kept
# The lock of a git that was killed, with which every later `git add` would fail. A git that runs holds it for less than a second.
find "$git_folder" -maxdepth 1 -name index.lock -mmin +1 -delete
git fetch --quiet origin HEAD "+refs/heads/*:refs/remotes/origin/*"
commit=${QACONV_COMMIT:-$(git rev-parse FETCH_HEAD)}
if [ "$(git rev-parse HEAD)" != "$commit" ] || ! git diff --quiet -- . ":!dvc.lock"; then
  cp dvc.lock "$kept" 2>/dev/null || :
  git checkout --quiet --force --detach "$commit"
  mv "$kept" dvc.lock 2>/dev/null || :
fi
