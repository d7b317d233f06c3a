# The specification's scenarios (section 7), and two more that everyone meets who uses its recipe.
Feature: Dockerfile multi-stage build

  Scenario: Successful multi-stage build
    Given a repository with a valid libraries.list and working code
    When the image is built from "Dockerfile" with the tag "app:1"
    Then the build succeeds
    And the result has the tag "app:1"
    And the image is in the store under that tag, with that id and that size
    And the service, started as the image says, answers over HTTP
    And the final image has no compiler, and is smaller than one that is built in one stage

  Scenario: Missing dependencies file
    Given a repository with a valid libraries.list and working code
    But the file "libraries.list" is missing
    When the image is built from "Dockerfile" with the tag "app:2"
    Then the build fails with exit code 3
    And the result's message names "libraries.list"
    And standard error shows the line "COPY libraries.list ."
    And no image "app:2" is in the store

  Scenario: A dependency that does not exist
    Given a repository with a valid libraries.list and working code
    And the file "libraries.list" says "no-such-package-for-kuz==0.0.0"
    When the image is built from "Dockerfile" with the tag "app:3"
    Then the build fails with exit code 1
    And standard error shows the line "RUN pip install --no-cache-dir -r libraries.list"
    And standard error shows the text "no-such-package-for-kuz"
    And no image "app:3" is in the store

  Scenario: The recipe to the letter
    Given a repository with a valid libraries.list and working code
    When the image is built from "Dockerfile.literal" with the tag "app:4"
    Then the build succeeds
    But starting the image ends with exit code 127 and says "uvicorn: not found"

  Scenario: Code that does not start
    Given a repository with a valid libraries.list and working code
    And the file "main.py" says "raise RuntimeError('the forge is cold')"
    When the image is built from "Dockerfile" with the tag "app:5"
    Then the build succeeds
    But starting the image ends with exit code 1 and says "RuntimeError: the forge is cold"

  Scenario: Nothing changed, and then the code did
    Given a repository with a valid libraries.list and working code
    When the image is built from "Dockerfile" with the tag "app:6"
    And the same is built again
    Then the image id is the same
    When the file "main.py" is edited and the same is built again
    Then the image id is another
    And all layers but the last are the same

  Scenario: Compiled Python files do not go stale when times are clamped
    Given a repository with a valid libraries.list and working code
    And SOURCE_DATE_EPOCH is 1700000000
    When the image is built from "Dockerfile" with the tag "app:7"
    Then the build succeeds
    And no compiled Python file in the image is stale

  Scenario: The saved image in another program
    Given a repository with a valid libraries.list and working code
    When the image is built from "Dockerfile" with the tag "app:8"
    Then the build succeeds
    And podman loads the saved image under the same id, and runs it
